"""Teachers that an attacker trains on their own images: what they see, what they show, and who shares them."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from audits import TINY, request, smoke
from record_changes import control_of, found_in
from sample_record import sample_record

from audit import pipeline
from audit.cache.entries import contents
from audit.cache.listing import inventory
from audit.cache.store import Cache
from audit.finished.verify import verify
from audit.plan.design import own_teacher, own_teacher_of
from audit.plan.suite import FIRST_NULL_SEED, FIRST_TUNING_SEED
from audit.statistics.sequential import HORIZON
from reports.record import Record, load
from teachers import methods
from teachers.data.datasets import load as load_task
from teachers.errors import AuditError
from teachers.names import HOME_MADE, TAUGHT, TWIN, own_teacher_digest
from teachers.oracle import Box
from teachers.surface import FULL, Surface
from teachers.targets import home
from teachers.targets.home import TWIN_SEEDS, LateBox, Lesson, holding, home_made, teach_ahead, twin
from teachers.targets.runtime import Runtime
from teachers.targets.teaching import BORN_AGAIN_SEED
from teachers.task import Task, few_labels

STUDENT = "strided-8-16-32"


@pytest.fixture
def digits(kept: Path) -> Task:
    return load_task("digits", kept)


def runtime(cache: Path) -> Runtime:
    return Runtime(Cache(cache), "cpu", lambda line: None)


def keys(record: Record, *kinds: str) -> set[str]:
    return {key for row in record.comparisons for m in row.margins if m.over in kinds for key in m.students}


def test_the_digest_of_an_own_teacher_changes_with_the_ways_to_teach() -> None:
    """A new `methods.VERSION` trains other twins, and whoever asked the old ones is stale."""
    assert TAUGHT == methods.VERSION


def test_an_own_teacher_is_named_by_all_that_it_is_trained_with() -> None:
    named = {
        own_teacher_digest(kind, task, pool, student, device, number)
        for kind in (TWIN, HOME_MADE)
        for task in "ab"
        for pool in "cd"
        for student in "ef"
        for device in ("cpu", "cuda")
        for number in (0, 1)
    }
    assert len(named) == 32 + 8, "there is one home-made teacher, of the ordinary architecture, whatever the student"


def test_no_student_has_the_seed_of_a_twin() -> None:
    assert len(TWIN_SEEDS) == FIRST_TUNING_SEED, "as many as there are numbers"
    assert FIRST_TUNING_SEED < FIRST_NULL_SEED + HORIZON < min(TWIN_SEEDS) < max(TWIN_SEEDS) < BORN_AGAIN_SEED


def test_a_judged_seed_asks_a_twin_of_its_own_and_a_tuning_seed_that_of_a_judged_one() -> None:
    cell = sample_record().trials[0].cell
    seeds = (0, 1, 2, FIRST_TUNING_SEED, FIRST_TUNING_SEED + 1)
    asked = [own_teacher_of(cell.model_copy(update={"seed": seed}), "twin") for seed in seeds]
    assert len(set(asked[:3])) == 3
    assert asked[3:] == asked[:2]


def test_an_own_teacher_sees_the_images_that_have_labels_and_no_others(digits: Task) -> None:
    few = few_labels(digits.train, 0.1)
    held = holding(digits, few)
    assert len(held.train) == len(few.labelled) < len(digits.train)
    assert held.train.labels is not None
    assert (held.train.labels == digits.train.every_label[few.labelled]).all()
    assert (held.validation, held.test, held.classes) == (digits.validation, digits.test, digits.classes)
    assert holding(digits, digits.train).digest == digits.digest


def test_the_home_made_teacher_of_all_images_is_the_ordinary_teacher(digits: Task, taught: Path) -> None:
    from teachers.targets.teaching import ordinary_teacher

    x = torch.rand(5, *digits.shape)
    ordinary = Box(ordinary_teacher(digits, runtime(taught)).here)
    made = home_made(digits, digits.train, FULL, runtime(taught))
    assert torch.equal(made.box(x).values, ordinary(x).values)


def test_a_twin_is_trained_when_it_is_first_asked_and_only_once(
    digits: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = []

    def short(recipe: methods.TeacherRecipe, task: Task, *more: object, **others: object) -> object:
        recipes.append(recipe)
        return taught(replace(recipe, recipe=replace(recipe.recipe, steps=3)), task, *more, **others)  # type: ignore[arg-type]

    taught = home.taught
    monkeypatch.setattr(home, "taught", short)
    found = twin(digits, digits.train, STUDENT, 2, Surface.parse("top:3"), runtime(tmp_path))
    assert recipes == []
    assert not (tmp_path / "teachers").exists()
    x = torch.rand(4, *digits.shape)
    shown, full = found.box(x).values, found.full(x).values
    assert torch.isfinite(shown).sum(-1).tolist() == [3] * 4
    assert torch.isfinite(full).all()
    assert torch.equal(found.box(x).values, shown)
    assert len(list((tmp_path / "teachers").glob("*.safetensors"))) == 1
    for recipe in recipes:
        assert (recipe.recipe.architecture, recipe.seed) == (STUDENT, TWIN_SEEDS[2])
        assert (recipe.method.name, recipe.method.settings) == ("label-smoothing", {"smoothing": 0.1})
        assert recipe.recipe == methods.default_recipe(digits, STUDENT)
    assert found.control
    assert isinstance(found.box, LateBox)


def test_students_of_a_twin_are_controls_that_share_the_seeds_of_the_judged_ones(finished: Path) -> None:
    record = load(finished)
    by_key = {trial.key: trial for trial in record.trials}
    row = found_in(record, "soft-kd")
    assert [m.over for m in row.margins] == ["ls", "own loss", "twin", "home-made"]
    (one,) = (m for m in row.margins if m.over == "twin")
    asked = [by_key[key] for key in one.students]
    assert [t.cell.seed for t in asked] == [by_key[key].cell.seed for key in row.knockoff.students]
    assert {(t.kind, t.teacher, t.role, t.queries) for t in asked} == {("control", None, "judge", 0)}
    assert {own_teacher(t.cell) for t in asked} == {"twin"}
    assert [t.cell.teacher for t in asked] == [own_teacher_of(t.cell, "twin") for t in asked]
    assert len({t.cell.teacher for t in asked}) == len(asked), "every seed asks a twin of its own"
    tuned = [t for t in record.trials if t.role == "tune" and own_teacher(t.cell) == "twin"]
    mine_ = [t for t in tuned if t.cell.technique == "soft-kd"]
    best = max(mine_, key=lambda t: t.validation_accuracy)
    assert len(mine_) == row.knockoff.tuned_over == 2, "as many settings as on the audited teacher"
    assert one.parameters == best.cell.parameters, "the setting that suits the twin"
    others = {t.key for t in record.trials} - keys(record, "twin") - {t.key for t in tuned}
    assert {own_teacher(by_key[key].cell) for key in others} == {None}
    assert not any(keys(record, "twin") & {t.key for t in record.trials if t.teacher}), "nothing is charged for them"
    mine, theirs = record.correct(row.knockoff.students), record.correct(one.students)
    assert one.margin.mean == pytest.approx(float(mine.mean() - theirs.mean()))
    assert one.accuracy == pytest.approx(float(theirs.mean()))


def test_the_home_made_teachers_students_are_those_of_the_positive_control(finished: Path) -> None:
    record = load(finished)
    one = found_in(record, "soft-kd").margin_over("home-made")
    assert one is not None
    assert one.students == control_of(record, "soft-kd").students
    mine = record.correct(found_in(record, "soft-kd").knockoff.students)
    assert one.margin.mean == pytest.approx(float(mine.mean() - record.correct(one.students).mean()))


def test_audits_of_other_teachers_share_the_twin_and_its_students(finished: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(finished.parent / "cache", tmp_path / "cache"))
    found = inventory(contents(cache))
    twins = {f"cells/{key[:2]}/{key}.json" for key in keys(load(finished), "twin")}
    assert twins
    assert twins <= found.controls, "what pruning keeps"
    teachers = [one for one in found.taught if one.card.seed in TWIN_SEEDS]
    assert len(teachers) == TINY.seeds
    assert {one.entry.name for one in teachers} <= found.controls
    assert {found.asked(found.cells[name]) for name in twins} == {TWIN}
    with smoke(replace(TINY, name="tiny-shared", attacks=("soft-kd", "label-kd"))):
        other = pipeline.run(request(cache, tmp_path / "out", teacher="placebo")).record
    assert keys(other, "twin") == keys(load(finished), "twin"), "whatever setting is best on the other teacher"
    trained = {
        line.split('"cell": "')[1][:64] for line in (tmp_path / "out" / "journal.jsonl").read_text().splitlines()
    }
    assert not trained & keys(load(finished), "twin", "ls", "own loss")


@pytest.mark.slow
@pytest.mark.parametrize("option", [{"labels": 0.5}, {"shots": 0.5}, {"surface": "label"}, {"surface": "gradients"}])
def test_margins_are_those_of_what_the_attacker_holds(
    cold: Callable[[str], Path], tmp_path: Path, option: dict[str, object]
) -> None:
    suite = replace(TINY, attacks=("soft-kd", "label-mixup", "backward-kd"))
    with smoke(suite):
        folder = pipeline.run(request(cold("cache"), tmp_path / "out", **option)).folder
        assert list(verify(folder)) == []
    record = load(folder)
    whole = option.keys() == {"surface"}
    by_key = {trial.key: trial for trial in record.trials}
    for row in record.comparisons:
        if row.status != "judged":
            continue
        over = {m.over: [by_key[key] for key in m.students] for m in row.margins}
        assert list(over) == ["ls", *(["own loss"] if row.needs == "probs" else []), "twin", "home-made"]
        assert {t.cell.surface for t in over["twin"]} == {option.get("surface", "probs")}
        assert {t.teacher for t in over["home-made"]} == ({"ordinary"} if whole else {None}) or option == {
            "surface": "gradients"
        }
        assert {t.cell.pool for name in over for t in over[name]} == {record.task.pool_digest}
        assert np.isfinite([m.margin.mean for m in row.margins]).all()


@pytest.mark.slow
def test_twins_are_taught_together_as_they_are_alone(digits: Task, tmp_path: Path) -> None:
    few, x = replace(digits, train=digits.train.take(np.arange(200))), torch.rand(3, *digits.shape)
    alone, together = (
        [Lesson(TWIN, few, few.train, runtime(tmp_path / name), "strided-2-2-2", i) for i in range(2)]
        for name in ("alone", "together")
    )
    assert all(lesson.is_due() for lesson in together)
    teach_ahead(together, 2)
    assert not any(lesson.is_due() for lesson in together)
    written = [path.read_bytes() for path in sorted((tmp_path / "together/teachers").glob("*.safetensors"))]
    assert len(written) == 2
    for lesson, other in zip(alone, together, strict=True):
        assert torch.equal(Box(lesson.teach().here)(x).values, Box(other.teach().here)(x).values)
    assert [path.read_bytes() for path in sorted((tmp_path / "alone/teachers").glob("*.safetensors"))] == written


def test_a_lesson_that_fails_elsewhere_is_told_where_its_answer_is_needed(
    digits: Task, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lessons = [Lesson(TWIN, digits, digits.train, runtime(tmp_path), "no-such-network", i) for i in range(2)]
    teach_ahead(lessons, 2)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(AuditError, match="no-such-network"):
        lessons[0].teach()
