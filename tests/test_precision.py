"""Precision: what the table says, a step with bfloat16, and audits whose students have it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attacks import registry
from attacks.base import Attack
from attacks.contract import CLASSES, SHAPE, tiny_lab
from audit import pipeline
from audit.finished.verify import verify
from reports import record as records
from teachers import precision
from teachers.errors import UsageError
from teachers.methods.plain import Plain
from teachers.precision import BFLOAT16, FLOAT32, fastest
from teachers.surface import Surface
from teachers.task import Augment, Pool
from teachers.training import Batch, Outputs, Recipe, StoredStream, Student, fit
from teachers.views import ViewSet
from tests.audits import request

RECIPE = Recipe("strided-4-8", steps=20, batch=20, views=2)
IMAGES = (3, 32, 32)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one network be faster with bfloat16, and two not."""
    rows = {
        ("amx", "2.14", "fast", IMAGES): (1.5, 1.6, 1.05),
        ("amx", "2.14", "slow", IMAGES): (0.7, 0.8, 0.9),
        ("amx", "2.14", "as fast", IMAGES): (1.0, 1.05, 1.2),
    }
    monkeypatch.setattr(precision, "_table", lambda: rows)
    monkeypatch.setattr(precision, "processor", lambda: "amx")
    monkeypatch.setattr(torch, "__version__", "2.14.1+cu130")


@pytest.mark.usefixtures("table")
def test_only_what_was_measured_to_be_faster_has_bfloat16() -> None:
    assert fastest(["fast"], IMAGES) == BFLOAT16
    for names in (["slow"], ["as fast"], ["unknown"], ["fast", "slow"], ["fast", "unknown"], []):
        assert fastest(names, IMAGES) == FLOAT32, names
    assert fastest(["fast"], (3, 64, 64)) == FLOAT32, "other images were not measured"
    assert fastest(["fast"], IMAGES, "cuda") == FLOAT32


@pytest.mark.usefixtures("table")
def test_another_processor_or_version_has_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(precision, "processor", lambda: None)
        assert fastest(["fast"], IMAGES) == FLOAT32
    monkeypatch.setattr(torch, "__version__", "2.15.0")
    assert fastest(["fast"], IMAGES) == FLOAT32


def test_a_processor_is_known_by_its_best_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    for answers, kind in (((True, True), "amx"), ((False, True), "avx512_bf16"), ((False, False), None)):
        for name, answer in zip(names, answers, strict=True):
            monkeypatch.setattr(torch.cpu, name, lambda answer=answer: answer)
        assert precision.processor() == kind
    for name in names:
        monkeypatch.delattr(torch.cpu, name)
    assert precision.processor() is None, "a version of torch that does not tell"


def test_the_table_that_ships_holds_what_was_measured() -> None:
    rows = precision._table()
    assert rows
    for (kind, version, _, shape), ratios in rows.items():
        assert kind in ("amx", "avx512_bf16"), "others have no instructions for it"
        assert version == precision.release(version)
        assert len(shape) == 3
        assert len(ratios) >= 3
        assert min(ratios) > 0


def student(
    chosen: precision.Precision, seed: int = 0, dtypes: list[torch.dtype] | None = None, steps: int = RECIPE.steps
) -> Student:
    labels = torch.arange(60) % CLASSES
    noise = torch.randint(0, 90, (60, *SHAPE), generator=torch.Generator().manual_seed(0))
    pool = Pool((noise + 40 * labels[:, None, None, None]).to(torch.uint8).numpy(), labels.numpy(), Augment(1))

    def loss(outputs: Outputs, batch: Batch, step: int) -> Tensor:
        if dtypes is not None:
            dtypes.append(outputs.logits.dtype)
        return Plain()(outputs, batch, step)

    stream = StoredStream(pool, ViewSet("crop", RECIPE.views), batch=RECIPE.batch, seed=seed)
    return fit(replace(RECIPE, precision=chosen, steps=steps), stream, loss, seed, classes=CLASSES, shape=SHAPE)


def test_a_step_with_bfloat16_is_nearly_one_with_float32() -> None:
    dtypes: list[torch.dtype] = []
    plain, fast, again = student(FLOAT32), student(BFLOAT16, dtypes=dtypes), student(BFLOAT16)
    assert set(dtypes) == {torch.float32}, "losses have float32"
    kept = [s.network.state_dict() for s in (plain, fast, again)]
    assert all(w.dtype in (torch.float32, torch.int64) for w in kept[1].values())
    assert all(torch.equal(w, kept[2][name]) for name, w in kept[1].items()), "the same seed gives the same student"
    # After one step, a weight differs by the rounding of bfloat16, 2⁻⁸; every further step multiplies what came before.
    one, other = (student(chosen, steps=1).network.state_dict() for chosen in (FLOAT32, BFLOAT16))
    assert 0 < max(float((w - one[name]).norm() / w.norm()) for name, w in other.items() if w.dim() > 1) < 2 * 2**-8
    assert fast.report.recipe.precision == BFLOAT16


def test_what_students_of_float32_are_named_by_is_as_before() -> None:
    assert "precision" not in RECIPE.settings
    assert replace(RECIPE, precision=BFLOAT16).settings["precision"] == BFLOAT16
    assert Recipe(**RECIPE.settings) == RECIPE


@pytest.mark.parametrize("attack", registry.OURS, ids=lambda attack: attack.name)
def test_every_attack_trains_with_bfloat16(attack: type[Attack]) -> None:
    needs = "gradients" if attack.needs == "gradients" else "probs"
    lab = tiny_lab(Surface.parse(needs), 1, original=attack.holds == "original")
    lab.recipe = replace(lab.recipe, precision=BFLOAT16)
    setting = attack()
    trained = (replace(setting, queries=48) if hasattr(setting, "queries") else setting).attempt(lab)
    assert trained.report.recipe.precision == BFLOAT16
    assert all(bool(torch.isfinite(w).all()) for w in trained.network.state_dict().values())


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_all_students_of_an_audit_have_its_precision(taught: Path, tmp_path: Path) -> None:
    done = pipeline.run(request(taught, tmp_path / "fast", precision=BFLOAT16)).record
    assert done.settings.precision == BFLOAT16
    assert {trial.cell.recipe["precision"] for trial in done.trials} == {BFLOAT16}
    assert {trial.regime.recipe["precision"] for trial in done.trials} == {BFLOAT16}
    assert not [*verify(tmp_path / "fast")]
    plain = pipeline.run(request(taught, tmp_path / "plain")).record
    assert plain.settings.precision == FLOAT32
    assert plain.audit != done.audit
    assert not {trial.key for trial in plain.trials} & {trial.key for trial in done.trials}
    other = done.model_copy(update={"settings": replace(done.settings, precision=FLOAT32)})
    records.save(other, tmp_path / "fast" / "record.json")
    assert any("settings.precision" in str(one) for one in verify(tmp_path / "fast"))


def test_an_unknown_precision_is_refused(taught: Path) -> None:
    with pytest.raises(UsageError, match="unknown precision 'half'; there are float32, bfloat16"):
        pipeline.run(request(taught, precision="half"))
