"""What once went wrong, or would: diverged controls, lost answers, damaged files, wrapped students, quiet exits."""

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from audits import TINY, request, timeless, with_attack
from torch import Tensor, nn

from attacks.base import Attack, Lab
from attacks.contract import tiny_lab
from attacks.controls.ls import LS
from attacks.logits.soft_kd import SoftKD
from audit import pipeline
from audit.cache.checking import student
from audit.cache.entries import contents
from audit.cache.store import Cache
from audit.execution.metering import CachedTeacher, MeteredOracle
from reports.record import load
from teachers.errors import RefusedInput, UsageError
from teachers.storage.entries import Entries
from teachers.storage.mapped import AnswerFiles
from teachers.storage.store import AnswerStore
from teachers.surface import FULL, Answers
from teachers.training import Batch, Outputs, Student

pytestmark = pytest.mark.usefixtures("tiny", "figures_once")


def test_a_control_that_diverged_makes_no_verdict_and_no_bite(finished: Path, tmp_path: Path) -> None:
    judged = {t.key for t in load(finished).trials if (t.teacher, t.role) == (None, "judge")}
    cache = Cache(Path(shutil.copytree(finished.parent / "cache", tmp_path / "cache")))
    for entry in (each for each in contents(cache.root).entries if each.kind == "students"):
        result = student(entry.path, entry.name)
        if result.cell.key in judged:
            cache.finish(result.model_copy(update={"diverged": True}))
    record = pipeline.run(request(tmp_path / "cache", tmp_path / "out")).record
    assert any(f.id == "weak-control" for f in record.flags)
    assert record.verdict.word == "INCONCLUSIVE"
    soft = next(c for c in record.comparisons if c.attack == "soft-kd")
    assert soft.positive_control is None


def answers(rows: np.ndarray) -> Answers:
    return Answers("probs", torch.from_numpy(rows).float()[:, None].repeat(1, 2))


def test_writers_of_one_block_keep_each_others_answers(tmp_path: Path) -> None:
    first, second = AnswerStore(tmp_path), AnswerStore(tmp_path)
    first.add("b", 6, np.array([0, 4]), answers(np.array([0, 4])))
    second.add("b", 6, np.array([1, 4]), answers(np.array([1, 4])))
    stored, missing = first.load("b", np.arange(6))
    assert missing.tolist() == [2, 3, 5]
    assert stored is not None
    assert stored.values[[0, 1, 4], 0].tolist() == [0, 1, 4]


def test_a_damaged_block_is_as_good_as_none(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    store.add("b", 3, np.arange(3), answers(np.arange(3)))
    (tmp_path / "b.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:40])
    assert store.load("b", np.arange(3))[1].tolist() == [0, 1, 2]
    store.add("b", 3, np.arange(3), answers(np.arange(3)))
    assert not len(store.load("b", np.arange(3))[1])


def test_answers_that_did_not_arrive_never_train_a_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, store = tiny_lab(FULL, 0), AnswerStore(tmp_path)
    monkeypatch.setattr(store, "add", lambda *_: None)
    files = AnswerFiles(Entries(tmp_path))
    door = MeteredOracle(CachedTeacher(store, lab.oracle.ask), FULL, {"pool": lab.pool}, None, files)
    with pytest.raises(RuntimeError, match="missing from the store"):
        door.views("pool", [lab.view_set("crop")], np.arange(5))


def test_unsorted_indices_are_refused_before_anything_is_asked() -> None:
    lab = tiny_lab(FULL, 0)
    with pytest.raises(ValueError, match="strictly increasing"):
        lab.answers("raw", only=np.array([5, 9, 3]))
    assert lab.oracle.charged == 0


def test_only_restricts_a_stream_without_answers_too() -> None:
    lab = tiny_lab(FULL, 0)
    batch = lab.stream("raw", only=np.array([1, 4])).next(0, nn.Identity())
    assert batch.index is not None
    assert set(batch.index.tolist()) == {1, 4}


class Headed(nn.Module):
    def __init__(self, network: nn.Module, classes: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.network, self.head = network, nn.Linear(math.prod(shape), classes)

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.network(x), (self.head(x.flatten(1)),))


@dataclass(frozen=True, kw_only=True)
class Skeptical(SoftKD):
    name = "skeptical-like"

    @classmethod
    def grid(cls) -> tuple[Attack, ...]:
        return cls(), cls(temperature=2.0)

    def run(self, lab: Lab) -> Student:
        steps = 40 if self.temperature == 2.0 else 30
        recipe = replace(lab.recipe, wrap=f"{__name__}:Headed", steps=steps)
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.headed, recipe)

    def headed(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return self.loss(Outputs(outputs.heads[0]), batch, step) + self.loss(outputs, batch, step)


@pytest.mark.slow
def test_heads_and_length_are_matched_in_the_control_of_the_chosen_setting(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_attack(monkeypatch, Skeptical)
    record = pipeline.run(request(kept, tmp_path / "out", attacks="skeptical-like")).record
    matched = {
        (t.regime.recipe["wrap"], t.regime.recipe["steps"])
        for t in record.trials
        if t.cell.technique == LS.name and t.role == "tune"
    }
    chosen = next(t for t in record.trials if t.cell.technique == "skeptical-like" and t.role == "judge").regime.recipe
    assert matched == {(None, TINY.steps), (f"{__name__}:Headed", chosen["steps"])}
    assert chosen["steps"] in (30, 40)
    assert record.comparisons[0].status == "judged"


@dataclass(frozen=True, kw_only=True)
class Unbudgeted(Attack):
    name = "unbudgeted"
    title = "A surrogate attack without a field for its queries"
    paper = "a test"
    needs = "label"
    holds = "surrogate"

    def run(self, lab: Lab) -> Student:
        assert len(lab.pool) == 0, "an attacker without original data holds none of it"
        only = np.arange(lab.spend(300))
        told = lab.answers("raw", pool=lab.surrogate, only=only)
        stream = lab.stream("raw", told, pool=lab.surrogate, only=only, source="surrogate")
        return lab.fit(
            stream, lambda outputs, batch, step: nn.functional.cross_entropy(outputs.logits, batch.answers.labels)
        )


def test_a_smaller_budget_is_tried_whatever_an_attacks_fields_are(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_attack(monkeypatch, Unbudgeted)
    record = pipeline.run(request(kept, tmp_path / "out", attacks="unbudgeted")).record
    found = record.comparisons[0].positive_control
    assert found is not None
    assert [point.queries for point in found.curve] == [30, 300]


@dataclass(frozen=True, kw_only=True)
class Leaving(SoftKD):
    name = "leaving"

    def run(self, lab: Lab) -> Student:
        raise SystemExit(0)


def test_an_attack_that_exits_is_an_attack_that_failed(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_attack(monkeypatch, Leaving)
    record = pipeline.run(request(kept, tmp_path / "out", attacks="soft-kd,leaving")).record
    assert record.comparisons[1].status == "failed"


def test_a_failed_attack_is_tried_again_by_the_same_command(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_attack(monkeypatch, Leaving)
    pipeline.run(request(kept, tmp_path / "out", attacks="soft-kd,leaving"))
    monkeypatch.setattr(Leaving, "run", SoftKD.run)
    record = pipeline.run(request(kept, tmp_path / "out", attacks="soft-kd,leaving")).record
    assert record.comparisons[1].status == "judged"


def test_a_finished_audit_whose_reports_were_lost_writes_them_again(kept: Path, finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "out"))
    (folder / "report.html").unlink()
    pipeline.run(request(kept, tmp_path / "out"))
    assert (folder / "report.html").exists()


def test_a_damaged_teacher_in_the_cache_is_taught_again(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent / "cache", tmp_path / "cache")
    for path in (tmp_path / "cache" / "teachers").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    again = pipeline.run(request(tmp_path / "cache", tmp_path / "b")).record
    assert again.times.trained == 0
    assert timeless(again) == timeless(load(finished))


@pytest.mark.parametrize("student", ["timm:vit_tiny_patch16_224", "torchvision:inception_v3", "cnn-4-4-4-4-4-4"])
def test_a_student_that_does_not_fit_the_images_is_refused(kept: Path, tmp_path: Path, student: str) -> None:
    with pytest.raises((UsageError, RefusedInput)):
        pipeline.run(request(kept, tmp_path / "out", student=student))


def test_surrogate_images_of_any_size_and_colour_are_made_to_fit(kept: Path, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "pictures" / "deep"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    wanted = request(kept, tmp_path / "out", surrogate=str(tmp_path / "pictures"), attacks="knockoff", budget=10)
    record = pipeline.run(wanted).record
    assert record.comparisons[0].knockoff.queries == 10
