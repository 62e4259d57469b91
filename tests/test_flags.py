"""Every flag is told on its page, is raised where it must be, and is not raised where it must not."""

import ast
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audits import TINY, request, smoke
from record_changes import updated

from attacks.logits.soft_kd import SoftKD
from audit import pipeline
from audit.analysis import flags, protocol_flags
from audit.analysis import student_flags as attack_checks
from audit.analysis.derive import derived
from audit.finished.choices import choices
from audit.finished.groups import Groups
from audit.finished.verify import verify
from audit.statistics.compare import LowerBound, Margin, paired
from reports.record import Comparison, PackedArray, Parameters, Record, Trial, load
from teachers.units import points

pytestmark = pytest.mark.usefixtures("curves_once")

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_says_what_the_code_says() -> None:
    """Where this fails: python -c "from audit.analysis.flags import page; print(page(), end='')" > docs/flags.md."""
    assert (ROOT / "docs" / "flags.md").read_text(encoding="utf-8") == flags.page()


def test_a_flag_is_raised_by_a_doubt_of_the_page_and_its_id_is_its_own() -> None:
    known = [doubt.id for of in flags.doubts().values() for doubt in of]
    assert len(known) == len(set(known))
    files, made = {Path(file.__file__ or "") for file in flags.PARTS.values()}, []
    for path in (ROOT / "audit").rglob("*.py"):
        calls = [n.func for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
        names = [c.id for c in calls if isinstance(c, ast.Name)]
        assert "Doubt" not in names or path in files, "a part of the page is missing"
        made += [path] * names.count("Flag")
    assert made == [Path(protocol_flags.__file__ or "")], "a flag is made by Doubt.raised alone"


def students(seeds: int, images: int, accuracy: float, seed: int = 0) -> np.ndarray:
    """Return what students got right, (S, N)."""
    return np.random.default_rng(seed).random((seeds, images)) < accuracy


def ids(*found: object) -> list[str]:
    return [flag.id for flag in found if flag is not None]  # type: ignore[attr-defined]


def test_doubts_about_splits_and_tuning() -> None:
    assert ids(protocol_flags.small_validation(2_999), protocol_flags.small_validation(3_000)) == ["small-validation"]
    assert ids(protocol_flags.light_tuning("smoke-0", 1), protocol_flags.light_tuning("standard-0", 2)) == [
        "light-tuning"
    ]
    assert ids(protocol_flags.few_labels(0.1), protocol_flags.few_labels(1.0)) == ["few-labels"]
    assert ids(protocol_flags.dropped_classes(("7",)), protocol_flags.dropped_classes(())) == ["dropped-classes"]


def test_doubts_about_teacher_and_controls() -> None:
    assert ids(protocol_flags.weak_teacher(0.7, 0.7), protocol_flags.weak_teacher(0.8, 0.7)) == ["weak-teacher"]
    assert ids(protocol_flags.weak_control(0, 0.1, 0.1), protocol_flags.weak_control(0, 0.2, 0.1)) == ["weak-control"]
    assert ids(protocol_flags.weak_control(1, 0.9, 0.1)) == ["weak-control"]
    assert ids(protocol_flags.erratic_control(0.33), protocol_flags.erratic_control(0.34)) == ["erratic-control"]
    same, other, worse = (students(5, 2_000, a, s) for a, s in ((0.8, 0), (0.8, 1), (0.7, 1)))
    assert ids(protocol_flags.null_control(paired(other, same)), protocol_flags.null_control(paired(worse, same))) == [
        "null-control"
    ]
    assert ids(protocol_flags.synthetic("x")) == ["synthetic-teacher"]


def test_an_attack_that_failed_is_named_in_what_to_do() -> None:
    flag = protocol_flags.failed("mine", "a student diverged (NaN)")
    assert (flag.id, flag.caps) == ("attack-failed", "undistillable")
    assert "repair mine" in flag.do
    assert protocol_flags.identical("mine", "so").id == "identical-to-control"


def shifted(mean: float, image_sd: float, seeds: int = 5, images: int = 2_000) -> Margin:
    """Return a margin whose images differ in what they give a knockoff, and of which training is nearly sure."""
    rng = np.random.default_rng(0)
    effect = rng.normal(0, image_sd, images)
    effect += mean - effect.mean()
    chance = rng.random((seeds, images))
    return paired(chance < 0.5 + effect / 2, chance > 0.5 + effect / 2)


def test_unequal_classes_are_told() -> None:
    assert ids(protocol_flags.class_imbalance({"a": 101, "b": 10, "c": 50})) == ["class-imbalance"]
    assert ids(
        protocol_flags.class_imbalance({"a": 100, "b": 10}), protocol_flags.class_imbalance({"a": 1, "b": 0})
    ) == ["class-imbalance"]


def test_a_control_without_mistakes_can_show_no_gain() -> None:
    assert ids(attack_checks.control_at_ceiling(0.991), attack_checks.control_at_ceiling(0.989)) == [
        "control-at-ceiling"
    ]


def test_a_test_split_is_too_small_where_images_alone_leave_more_than_the_tolerance() -> None:
    wide, narrow = shifted(0, 0.3, images=500), shifted(0, 0.05, images=20_000)
    lost, won = shifted(-0.2, 0.3, images=500), shifted(0.2, 0.3, images=500)
    assert 1.645 * (wide.image_variance / wide.images) ** 0.5 > 0.01
    flag = attack_checks.small_test({"narrow": narrow, "wide": wide, "lost": lost})
    assert flag is not None
    assert (flag.id, "of wide," in flag.found) == ("small-test", True)
    assert attack_checks.small_test({"narrow": narrow}) is None
    assert attack_checks.small_test({"lost": lost}) is None, "it is ruled out all the same"
    assert attack_checks.small_test({"won": won}) is None, "it gains all the same"


def test_what_should_win_and_loses_is_doubted() -> None:
    better, worse = students(5, 2_000, 0.8), students(5, 2_000, 0.7, seed=1)
    loses, wins = paired(better, worse), paired(worse, better)
    found = attack_checks.weaker_access_wins("label", "probs", loses)
    assert ids(found, attack_checks.weaker_access_wins("label", "probs", wins)) == ["weaker-access-wins"]
    found = attack_checks.smaller_budget_wins("mine", 10, 100, loses)
    assert ids(found, attack_checks.smaller_budget_wins("mine", 10, 100, wins)) == ["smaller-budget-wins"]
    assert found is not None
    assert "mine with 10 queries" in found.found


def test_attacks_that_fail_their_positive_control_are_named_once() -> None:
    assert attack_checks.fails_positive_control([]) is None
    flag = attack_checks.fails_positive_control(["a", "b", "a"])
    assert flag is not None
    assert flag.found.endswith(": a, b")


def test_a_student_that_agrees_without_being_right_is_cloned_in_behaviour() -> None:
    agrees, same = paired(students(5, 4_000, 0.9), students(5, 4_000, 0.8, 1)), shifted(0, 0.01, images=40_000)
    lost, gains = paired(students(5, 4_000, 0.7), students(5, 4_000, 0.8, 1)), agrees
    assert ids(attack_checks.cloned({"a": agrees}, {"a": lost})) == ["cloned-behaviour"]
    assert attack_checks.cloned({"a": agrees}, {"a": gains}) is None
    assert attack_checks.cloned({"a": same}, {"a": lost}) is None


@pytest.fixture(scope="module")
def audited(finished: Path) -> Record:
    return load(finished)


def known_as(record: Record, cells: Sequence[str], **shares: float | np.ndarray) -> Record:
    """Say of some students what they got right, or agreed about: a share of the images, drawn for each."""

    def drawn(share: float | np.ndarray, cell: str) -> PackedArray:
        return PackedArray.of(np.random.default_rng(cells.index(cell)).random(record.task.test) < share)

    trials = [
        t.model_copy(update={n: drawn(s, t.key) for n, s in shares.items()}) if t.key in cells else t
        for t in record.trials
    ]
    return record.model_copy(update={"trials": tuple(trials)})


def flagged(record: Record) -> set[str]:
    return {flag.id for flag in derived(record).flags}


def row_of(record: Record, attack: str) -> Comparison:
    return next(row for row in record.comparisons if row.attack == attack)


def test_a_record_raises_what_its_students_say(audited: Record) -> None:
    soft, surrogate, (null, *_) = row_of(audited, "soft-kd"), row_of(audited, "knockoff"), audited.controls
    assert all(t.test_agrees is not None for t in audited.trials if t.test_correct is not None)
    calm = flagged(audited)

    def raises(record: Record, flag: str) -> bool:
        assert flag not in calm
        return flag in flagged(record)

    alone = {"comparisons": (soft,)}
    won, mistaken = (known_as(audited, soft.knockoff.students, test_correct=share) for share in (1, 0.1))
    assert "fails-positive-control" not in flagged(won.model_copy(update=alone))
    assert "fails-positive-control" in flagged(mistaken.model_copy(update=alone))
    assert raises(known_as(audited, null.control.students, test_correct=1), "control-at-ceiling")
    small, large = surrogate.curve
    turned = known_as(known_as(audited, small.students, test_correct=0.9), large.students, test_correct=0.1)
    assert raises(turned, "smaller-budget-wins")
    cloning = known_as(
        known_as(mistaken, soft.knockoff.students, test_agrees=1), soft.control.students, test_agrees=0.8
    )
    assert raises(cloning, "cloned-behaviour")
    weaker = updated(soft, {"attack": "mine", "needs": "label", "knockoff.students": soft.control.students})
    better = known_as(mistaken, soft.control.students, test_correct=0.9)
    assert raises(better.model_copy(update={"comparisons": (soft, weaker)}), "weaker-access-wins")
    suited = np.where(np.arange(audited.task.test) % 2, 0.9, 0.1)
    turns = known_as(
        known_as(audited, soft.knockoff.students, test_correct=suited), soft.control.students, test_correct=1 - suited
    )
    assert raises(turns, "small-test")


def test_a_record_raises_what_its_data_say(audited: Record) -> None:
    calm, labels = flagged(audited), audited.task.test_labels
    few = np.where(labels.array() == 3, 4, labels.array()).astype(np.uint16)
    few[0] = 3
    task = audited.task.model_copy(update={"test_labels": PackedArray.of(few)})
    probe = audited.probe.model_copy(update={"duplicated": PackedArray.of(np.arange(audited.task.test) < 9)})
    assert not calm & {"class-imbalance", "duplicates"}
    assert "class-imbalance" in flagged(audited.model_copy(update={"task": task}))
    assert "duplicates" in flagged(audited.model_copy(update={"probe": probe}))


def test_what_grows_with_the_steps_is_doubted() -> None:
    sure, small, unsure = LowerBound(0.02, 0.01), LowerBound(0.004, 0.003), LowerBound(0.02, -0.001)
    assert ids(*(attack_checks.still_improving(gain) for gain in (sure, small, unsure))) == ["control-still-improving"]
    found = [attack_checks.not_converged("mine", 0.01, 0.03, gain) for gain in (sure, small, unsure)]
    assert ids(*found) == ["knockoff-not-converged"]
    assert attack_checks.not_converged("mine", -0.016, -0.004, sure) is None, "it loses at either length"
    assert "from +1.00 points to +3.00 points" in found[0].found  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def longer(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an audit of which some students were tuned for twice the steps."""
    with smoke(replace(TINY, name="tiny-longer", steps=25, tuning_seeds=2, attacks=("soft-kd", "knockoff"))):
        folder = pipeline.run(request(kept, tmp_path_factory.mktemp("longer") / "out")).folder
        assert list(verify(folder)) == []
        return folder


def tuned(record: Record, name: str, steps: int) -> list[Trial]:
    return [
        t for t in record.trials if t.cell.technique == name and t.role == "tune" and t.regime.recipe["steps"] == steps
    ]


@pytest.mark.slow
def test_the_control_and_the_best_attack_are_tuned_for_twice_the_steps(longer: Path) -> None:
    record = load(longer)
    (soft, _), (null, *_) = record.comparisons, record.controls
    for name, parameters in (("ls", null.control.parameters), ("soft-kd", soft.knockoff.parameters)):
        assert {(t.cell.seed, repr(t.cell.parameters)) for t in tuned(record, name, 50)} == {
            (t.cell.seed, repr(t.cell.parameters)) for t in tuned(record, name, 25) if t.cell.parameters == parameters
        }
        assert len(tuned(record, name, 50)) == 2
    assert {t.test_correct for t in record.trials if t.regime.recipe["steps"] == 50} == {None}, (
        "the test split is not seen"
    )


@pytest.mark.parametrize(("name", "flag"), [("soft-kd", "knockoff-not-converged"), ("ls", "control-still-improving")])
def test_students_of_twice_the_steps_tell_of_convergence_and_are_no_settings(
    longer: Path, name: str, flag: str
) -> None:
    record = load(longer)

    def known(cells: list[str], share: float) -> Record:
        bits = PackedArray.of(np.random.default_rng(0).random(record.task.validation) < share)
        trials = [t.model_copy(update={"validation_correct": bits}) if t.key in cells else t for t in record.trials]
        return record.model_copy(update={"trials": tuple(trials)})

    cells = [t.key for t in tuned(record, name, 50)]
    more, less = (derived(known(cells, share)) for share in (1.0, 0.1))
    assert flag in {f.id for f in more.flags}
    assert flag not in {f.id for f in less.flags}
    assert "weak-teacher" not in {f.id for f in more.flags}
    assert list(choices(Groups(more))) == []


def test_margins_at_both_lengths_are_those_of_students_that_asked_the_teacher(longer: Path) -> None:
    """The same attack has students of the same setting, seeds and steps that asked for smoothed labels."""
    record = load(longer)
    soft, null = record.comparisons[0], record.controls[0]
    others = [
        t for t in tuned(record, "soft-kd", 25) if t.cell.parameters == soft.knockoff.parameters and t.teacher is None
    ]
    assert others
    lost = PackedArray.of(np.zeros(record.task.validation, bool))
    won = [t.key for t in tuned(record, "soft-kd", 50)]
    ones = PackedArray.of(np.ones(record.task.validation, bool))
    bits = {**{t.key: lost for t in others}, **dict.fromkeys(won, ones)}
    trials = tuple(
        t.model_copy(update={"validation_correct": bits.get(t.key, t.validation_correct)}) for t in record.trials
    )
    flag = next(
        f for f in derived(record.model_copy(update={"trials": trials})).flags if f.id == "knockoff-not-converged"
    )

    def accuracy(name: str, steps: int, parameters: Parameters) -> float:
        mine = [t for t in tuned(record, name, steps) if t.cell.parameters == parameters and t not in others]
        return float(np.mean([t.validation_accuracy for t in mine]))

    usual = accuracy("soft-kd", 25, soft.knockoff.parameters) - accuracy("ls", 25, null.control.parameters)
    after = 1 - accuracy("ls", 50, null.control.parameters)
    assert f"from {points(usual)} points to {points(after)} points" in flag.found


def test_an_attack_of_a_single_setting_is_compared_with_itself(kept: Path, tmp_path: Path) -> None:
    with smoke(replace(TINY, name="tiny-longer", steps=25, tuning_seeds=2, attacks=("soft-kd",))):
        record = pipeline.run(request(kept, tmp_path / "out"), fixed=(SoftKD(temperature=3.0),)).record
        assert list(verify(tmp_path / "out")) == []
    seeds = [{t.cell.seed for t in tuned(record, "soft-kd", steps)} for steps in (25, 50)]
    assert seeds[0] == seeds[1] == {1_000, 1_001}


def test_nothing_is_trained_for_longer_where_one_seed_tunes(audited: Record) -> None:
    assert 50 not in {t.regime.recipe["steps"] for t in audited.trials}
