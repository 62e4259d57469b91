"""Attacks that lose to their own control, and answers that mislead attacks: no evidence that a teacher hides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audits import TINY, request, smoke
from record_changes import updated

from attacks.adaptive import adaptive
from attacks.adaptive.decoders.decoding import unchanged
from attacks.sources import statements
from audit import pipeline
from audit.analysis import student_flags, tuning
from audit.analysis.derive import derived
from audit.finished.verify import follows, verify
from audit.statistics.compare import paired
from audit.statistics.sequential import once
from audit.statistics.verdict import Finding, rule
from reports.record import UNSTATED, Comparison, PackedArray, Record, Trial, load
from reports.wording import positive_control

pytestmark = pytest.mark.usefixtures("curves_once")
ATTACKS = ("soft-kd", "dist", "adaptive", "label-mixup")
SUITE = replace(TINY, name="tiny-misled", attacks=ATTACKS, settings=3, tuning_seeds=2, seeds=3, steps=4)


@pytest.fixture(scope="module")
def measured(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Return an audit whose settings were tuned with two seeds, one attack of which decodes answers.

    What it decodes is not looked at here, and takes most of the time: nothing.
    """
    with smoke(SUITE), pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaptive.DECODED, "decode", lambda answers, *others, **options: unchanged(answers))
        folder = pipeline.run(request(taught, tmp_path_factory.mktemp("misled") / "out", surface="round:4")).folder
        assert list(verify(folder)) == []
        return load(folder)


def right(share: float, trial: Trial, images: int) -> PackedArray:
    """Draw which images a student is right on: of all seeds nearly the same, of one seed the same for all students."""
    same, own = np.random.default_rng(0).random(images), np.random.default_rng(1 + trial.cell.seed)
    drawn = np.where(own.random(images) < 0.1, own.random(images), same)
    return PackedArray.of(drawn < share)


def with_shares(record: Record, keys: Iterable[str], share: float, *, test: bool = False) -> Record:
    """Let some students be right on a share of the validation images, or of the test images."""
    task, chosen = record.task, {*keys}
    field, size = ("test_correct", task.test) if test else ("validation_correct", task.validation)
    trials = [t.model_copy(update={field: right(share, t, size)}) if t.key in chosen else t for t in record.trials]
    return record.model_copy(update={"trials": tuple(trials)})


def row_of(record: Record, attack: str) -> Comparison:
    return next(row for row in record.comparisons if row.attack == attack)


def tuned(record: Record, attack: str, *, control: bool = False, every: bool = False) -> list[str]:
    """Return the students of an attack's best setting, of its control, or those that tuned all its settings."""
    mine, theirs = tuning.sides(row_of(record, attack))
    trials = {trial.key: trial for trial in record.trials}
    if every:
        best = trials[mine[0]].cell
        return [
            t.key
            for t in record.trials
            if t.role == "tune" and (t.cell.technique, t.cell.teacher) == (attack, best.teacher)
        ]
    like = trials[(theirs if control else mine)[0]].cell
    return [*tuning.students(record.trials, like).values()]


def all_right(record: Record, share: float) -> Record:
    """Let every student be right on a share of all images: only the changes after it tell them apart."""
    every = [trial.key for trial in record.trials]
    tested = [trial.key for trial in record.trials if trial.test_correct is not None]
    even = with_shares(with_shares(record, every, share), tested, share, test=True)
    teacher = record.teacher.model_copy(update={"test_correct": PackedArray.of(np.ones(record.task.test, bool))})
    return even.model_copy(update={"teacher": teacher})


def raised(record: Record, flag: str) -> str:
    return next((f.found for f in derived(record).flags if f.id == flag), "")


def test_a_setting_finds_its_tuning_students_and_those_of_its_control(measured: Record) -> None:
    for attack in ("soft-kd", "dist", "adaptive", "label-mixup"):
        assert len(tuned(measured, attack)) == 5, "two tuned, three judged"
        assert len(tuned(measured, attack, control=True)) >= 5
        assert not {*tuned(measured, attack)} & {*tuned(measured, attack, control=True)}
    assert len(tuned(measured, "dist", every=True)) >= 6


def test_an_attack_surely_below_its_control_on_validation_is_mis_tuned(measured: Record) -> None:
    even = all_right(measured, 0.7)
    assert raised(even, "mis-tuned") == ""
    lost = derived(with_shares(even, tuned(even, "dist"), 0.6))
    assert raised(lost, "mis-tuned").endswith(": dist")
    assert row_of(lost, "dist").mis_tuned
    assert not row_of(lost, "soft-kd").mis_tuned
    scope = lost.verdict.scope.partition("positive control: ")[2].partition(";")[0]
    assert "dist" not in scope
    assert positive_control(row_of(lost, "dist")).endswith(", mis-tuned")
    label = derived(with_shares(even, tuned(even, "label-mixup"), 0.6))
    assert raised(label, "mis-tuned").endswith(": label-mixup"), "whatever it sees"


def test_a_point_or_chance_is_no_mis_tuning(measured: Record) -> None:
    even = all_right(measured, 0.7)
    assert raised(with_shares(even, tuned(even, "dist"), 0.695), "mis-tuned") == ""
    one = tuned(even, "dist")[:1]
    assert raised(with_shares(even, one, 0.55), "mis-tuned") == "", "a single bad seed is no certainty"


def test_a_setting_that_was_not_tuned_may_lose_as_well(kept: Path, tmp_path: Path) -> None:
    from attacks.logits.soft_kd import SoftKD

    with smoke(replace(SUITE, attacks=("soft-kd",), tuning_seeds=1)):
        record = pipeline.run(request(kept, tmp_path / "out"), fixed=(SoftKD(temperature=3.0),)).record
    even = all_right(record, 0.7)
    assert raised(even, "mis-tuned") == ""
    assert raised(with_shares(even, tuned(even, "soft-kd"), 0.5), "mis-tuned").endswith(": soft-kd")


def test_records_of_earlier_designs_are_judged_as_they_were(measured: Record) -> None:
    even = all_right(measured, 0.7)
    lost = with_shares(even, tuned(even, "dist"), 0.6).model_copy(update={"design": UNSTATED})
    found = derived(lost)
    assert not {"mis-tuned", "harmful-answers"} & {flag.id for flag in found.flags}
    assert "mis_tuned" not in found.model_dump_json()


def test_a_forged_mis_tuning_is_found(measured: Record) -> None:
    even = derived(all_right(measured, 0.7))
    lost = derived(with_shares(even, tuned(even, "dist"), 0.6))
    for record, value in ((lost, False), (even, True)):
        rows = tuple(updated(r, {"mis_tuned": value}) if r.attack == "dist" else r for r in record.comparisons)
        forged = record.model_copy(update={"comparisons": rows})
        assert any(found.where == "record.comparisons[1]" for found in follows(forged))
    without = lost.model_copy(update={"flags": tuple(f for f in lost.flags if f.id != "mis-tuned")})
    assert any("flags" in found.where for found in follows(without))


def harmed(record: Record, *attacks: str, share: float = 0.4) -> Record:
    """Let the judged students of some attacks be right on a share of the test images."""
    keys = [key for attack in attacks for key in row_of(record, attack).knockoff.students]
    return with_shares(record, keys, share, test=True)


def test_answers_that_harm_several_attacks_are_harmful(measured: Record) -> None:
    even = all_right(measured, 0.7)
    assert raised(even, "harmful-answers") == ""
    assert raised(harmed(even, "soft-kd"), "harmful-answers") == "", "one attack may have an unsuitable loss"
    assert raised(harmed(even, "soft-kd", "label-mixup"), "harmful-answers") == "", "labels cannot mislead like this"
    assert raised(harmed(even, "soft-kd", "dist", share=0.69), "harmful-answers") == "", "not by three points"
    both = harmed(even, "soft-kd", "dist")
    flag = next(f for f in derived(both).flags if f.id == "harmful-answers")
    assert flag.caps == "undistillable"
    assert "soft-kd, dist" in flag.found
    weak = both.teacher.model_copy(update={"test_correct": PackedArray.of(np.zeros(both.task.test, bool))})
    assert raised(both.model_copy(update={"teacher": weak}), "harmful-answers") == "", "nothing to teach"


def test_attacks_that_fall_back_to_labels_tell_of_harm_by_what_they_tried(measured: Record) -> None:
    even = all_right(measured, 0.7)
    tried = [key for attack in ("soft-kd", "dist") for key in tuned(even, attack, every=True)]
    assert raised(with_shares(even, tried, 0.4), "harmful-answers")
    best = [key for attack in ("soft-kd", "dist") for key in tuned(even, attack)]
    assert raised(with_shares(even, best, 0.4), "harmful-answers") == "", "one setting of three is not most of them"


def decoded(record: Record, passes: bool, *, share: float = 0.5) -> Record:
    """Let the decoding attack pass its positive control or not, and its judged students be so accurate."""
    found = row_of(record, "adaptive").positive_control
    assert found is not None
    record = with_shares(record, found.students, 0.9 if passes else 0.2, test=True)
    return harmed(record, "adaptive", share=share)


def test_a_decoding_attack_that_decides_settles_what_misleading_answers_are_worth(measured: Record) -> None:
    both = harmed(all_right(measured, 0.7), "soft-kd", "dist")
    assert raised(decoded(both, True), "harmful-answers") == ""
    assert raised(decoded(both, False), "harmful-answers"), "it does not even work on the ordinary teacher"
    assert raised(decoded(both, True, share=0.7), "harmful-answers"), "a bound on nothing decides nothing"
    lost = with_shares(decoded(both, True), tuned(both, "adaptive"), 0.5)
    assert raised(lost, "mis-tuned").endswith("adaptive")
    assert raised(lost, "harmful-answers"), "an attack that loses to its control decides nothing"


def test_the_family_of_adaptive_attacks_says_that_it_decodes() -> None:
    assert [name for name, said in statements().items() if said.decodes] == ["adaptive"]


def test_harm_is_bounded_over_seeds() -> None:
    """Two seeds of which one collapsed are no certain harm, however large their mean is."""
    rng = np.random.default_rng(0)
    right_ = rng.random((2, 2_000)) < 0.7
    collapsed = right_ & (np.arange(2)[:, None] == 0)
    margin = paired(collapsed, right_)
    assert margin.mean < -0.3
    assert not tuning.surely_below(margin, tuning.HARM)
    worse = np.ones((3, 500), bool)
    assert (
        student_flags.harmful_answers(["a", "b"], paired(~worse | (rng.random((3, 500)) < 0.9), worse), False) is None
    )


def judged(name: str, mean: float, *, passes: bool, mis_tuned: bool) -> Finding:
    rng = np.random.default_rng(abs(hash((mean, passes))) % 2**32)
    chance = rng.random((8, 4_000))
    luck = 0.005 * rng.normal(size=(8, 1))
    margin = paired(chance < 0.5 + mean / 2 + luck, chance > 0.5 + mean / 2)
    return Finding(attack=name, status="judged", looks=once(margin), passes=passes, mis_tuned=mis_tuned)


def test_calling_attacks_mis_tuned_or_adding_such_never_makes_a_verdict_undistillable() -> None:
    rng, undistillable = np.random.default_rng(0), 0
    for case in range(300):
        found = [
            judged(
                f"a{i}", float(rng.normal(-0.05, 0.04)), passes=bool(rng.integers(2)), mis_tuned=bool(rng.integers(2))
            )
            for i in range(rng.integers(1, 5))
        ]
        one = int(rng.integers(len(found)))
        fine, lost = (
            rule([*found[:one], replace(found[one], mis_tuned=value), *found[one + 1 :]], [], complete=True).word
            for value in (False, True)
        )
        undistillable += lost == "UNDISTILLABLE"
        assert lost != "UNDISTILLABLE" or fine == "UNDISTILLABLE", case
        assert (lost == "DISTILLABLE") == (fine == "DISTILLABLE"), "a gain is a gain"
        more = [*found, judged("more", float(rng.normal(-0.05, 0.04)), passes=True, mis_tuned=True)]
        before, after = rule(found, [], complete=True).word, rule(more, [], complete=True).word
        assert after != "UNDISTILLABLE" or before == "UNDISTILLABLE", case
        assert rule([replace(f, mis_tuned=True) for f in found], [], complete=True).word != "UNDISTILLABLE"
    assert undistillable > 10, "the rule is not empty"


def test_an_open_bound_of_a_mis_tuned_attack_still_blocks() -> None:
    sure = judged("sure", -0.1, passes=True, mis_tuned=False)
    wide = replace(judged("open", 0.004, passes=True, mis_tuned=False), mis_tuned=True)
    assert rule([sure], [], complete=True).word == "UNDISTILLABLE"
    ruling = rule([sure, wide], [], complete=True)
    assert ruling.word == "INCONCLUSIVE"
    assert any("open" in reason for reason in ruling.reasons)
    alone = rule([replace(sure, mis_tuned=True)], [], complete=True)
    assert "every judged attack that passes the positive control is mis-tuned" in alone.reasons


def test_an_attack_a_point_below_its_control_is_called_mis_tuned_as_seldom_as_the_level_says() -> None:
    rng, called, draws = np.random.default_rng(0), 0, 400
    for _ in range(draws):
        hard = rng.normal(0.9, 0.6, 1_500)  # of images, for both sides
        luck = rng.normal(0, 0.02, (2, 7, 1))  # of seeds
        control, mine = (hard + one + rng.normal(0, 0.4, (7, 1_500)) for one in luck)
        theirs = control > 0
        lost = (mine > 0) & ~(rng.random((7, 1_500)) < 0.01 / theirs.mean())
        called += tuning.surely_below(paired(lost, theirs), tuning.MISTUNED)
    assert called / draws < 0.05 + 3 * (0.05 * 0.95 / draws) ** 0.5
    assert called > 0, "the bound is not empty"
