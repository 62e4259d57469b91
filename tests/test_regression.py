"""A change of margin between two audits, and how sure it is."""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations, permutations

import numpy as np
import pytest
from gate_records import ABOVE, BELOW, aside, distillable, known, plain, undistillable
from record_changes import changed

from audit.policy.regression import changes, lost, unlike
from audit.statistics.compare import Correct, differing, holm, paired
from audit.statistics.verdict import ALPHA
from reports.bag import shipped
from reports.record import Record

DELTA = 0.005


def drawn(seeds: int, images: int, accuracy: float, seed: int) -> Correct:
    return np.random.default_rng(seed).random((seeds, images)) < accuracy


def test_controls_that_are_the_same_cancel() -> None:
    ls, before, now = (drawn(5, 800, a, s) for s, a in enumerate((0.7, 0.72, 0.75)))
    assert differing((now, ls), (before, ls)) == paired(now, before).anywhere()
    longer = drawn(8, 800, 0.75, 3)
    both = np.concatenate([ls, drawn(3, 800, 0.7, 4)])
    assert differing((longer, both), (before, ls)).mean == pytest.approx(
        longer.mean() - both.mean() - before.mean() + ls.mean()
    )


def test_a_change_has_the_mean_squares_of_its_scores() -> None:
    """Against the definitions of the two-way analysis of variance."""
    now, before = [(drawn(4, 300, 0.8, s), drawn(4, 300, 0.7, s + 1)) for s in (0, 2)]
    d = now[0].astype(float) - now[1] - before[0] + before[1]
    found = differing(now, before)
    rows, columns = d.mean(axis=1, keepdims=True), d.mean(axis=0, keepdims=True)
    assert found.mean == pytest.approx(d.mean())
    assert found.between_seeds == pytest.approx(300 * ((rows - d.mean()) ** 2).sum() / 3)
    assert found.between_images == pytest.approx(4 * ((columns - d.mean()) ** 2).sum() / 299)
    assert found.residual == pytest.approx(((d - rows - columns + d.mean()) ** 2).sum() / (3 * 299))
    assert found.discordant == np.count_nonzero(d) / 4


def test_audits_of_unlike_images_are_refused() -> None:
    one, other = drawn(2, 30, 0.5, 0), drawn(2, 40, 0.5, 0)
    with pytest.raises(ValueError, match="must hold the same seeds and images"):
        differing((one, one), (other, other))


@pytest.mark.parametrize("seeds", [(5, 5), (5, 8), (8, 5)])
def test_bounds_of_a_change_cover_it_as_often_as_they_say(seeds: tuple[int, int]) -> None:
    """Both audits have images and LS students in common; students of a seed, and of an image, are alike."""
    rng, images, runs, covered = np.random.default_rng(0), 300, 400, 0
    for _ in range(runs):
        hard = rng.normal(0, 1.0, images)
        shift = {name: rng.normal(0, 0.2, (max(seeds), 1)) for name in ("ls", "now", "before")}
        noise = rng.normal(0, 1, (max(seeds), images))
        ls = hard + shift["ls"] + noise > 0
        now, before = (hard + shift[name] + rng.normal(0, 1, noise.shape) > 0 for name in ("now", "before"))
        found = differing((now[: seeds[0]], ls[: seeds[0]]), (before[: seeds[1]], ls[: seeds[1]]))
        covered += found.upper(0.95) >= 0  # there is no change
    assert covered / runs > 0.95 - 2 * math.sqrt(0.05 * 0.95 / runs)


def other(soft: tuple[int, int] = ABOVE, salt: int = 1) -> Record:
    """Return an audit with other knockoff students of soft KD."""
    return known(plain(), {"soft-kd": soft}, salt)


def change(now: Record, before: Record, attack: str = "soft-kd", delta: float = DELTA):  # type: ignore[no-untyped-def]
    return next(c for c in changes(now, before, (), delta) if c.attack == attack)


def test_the_same_students_hold_and_have_not_regressed() -> None:
    every = changes(distillable(), distillable(), (), DELTA)
    assert [found.attack for found in every] == ["soft-kd", "avg", "label-mixup", "knockoff"]
    for found in every:
        assert found.same
        assert found.held(DELTA)
        assert not found.regressed


def test_a_margin_regresses_where_it_surely_grew_by_more_than_the_tolerance() -> None:
    grown = change(other((1_100, 100)), distillable())
    assert grown.regressed
    assert not grown.held(DELTA)
    assert grown.looks is not None
    assert grown.looks.lower(ALPHA) > DELTA
    assert not change(other((1_100, 100)), distillable(), delta=0.05).regressed
    assert change(other((1_100, 100)), distillable(), delta=0.05).held(0.05)


def test_a_small_change_is_neither() -> None:
    found = change(other((910, 100)), distillable())
    assert not found.regressed
    assert not found.held(DELTA)
    assert "+13.06 points against +12.90: +0.16 [" in str(found)


def test_a_margin_that_fell_holds() -> None:
    assert change(other(BELOW), distillable()).held(DELTA)


def test_looking_at_more_attacks_is_paid_for() -> None:
    now, before = other((985, 100)), distillable()
    alone = next(c for c in changes(now, before, {"avg", "label-mixup", "knockoff"}, DELTA))
    assert alone.attack == "soft-kd"
    assert 0 < alone.p < 1
    assert change(now, before).p == pytest.approx(4 * alone.p)


def test_an_attack_that_the_baseline_did_not_judge_is_open() -> None:
    found = change(distillable(), aside(undistillable(), "failed", "soft-kd"))
    assert (found.regressed, found.held(DELTA), found.looks) == (False, False, None)
    assert str(found) == "soft-kd (+12.90 points, not judged in the baseline)"


def test_what_differs_between_two_audits_is_named() -> None:
    record = distillable()
    assert unlike(record, undistillable()) is None

    def with_(part: str, **fields: object) -> Record:
        return record.model_copy(update={part: changed(getattr(record, part), **fields)})

    for what, other in {
        "suite": with_("suite", digest="0"),
        "design version": record.model_copy(update={"design": 4}),
        "task": with_("task", digest="0"),
        "student": with_("settings", student="resnet18-small"),
        "attacker's data": with_("task", pool_digest="0"),
        "drop-classes": with_("settings", drop_classes=("a",)),
        "budget": with_("settings", budget=10),
        "shots": with_("settings", shots=0.5),
        "surrogate": with_("settings", surrogate="elsewhere"),
    }.items():
        assert unlike(record, other) == what
    trials = tuple(
        t.model_copy(update={"cell": t.cell.model_copy(update={"version": "77"})})
        if t.cell.technique == "soft-kd"
        else t
        for t in record.trials
    )
    assert unlike(record, record.model_copy(update={"trials": trials})) == "version of soft-kd"


def test_an_attack_that_only_the_baseline_judged_is_lost() -> None:
    now = distillable()
    rows = tuple(row for row in now.comparisons if row.attack != "soft-kd")
    assert lost(now.model_copy(update={"comparisons": rows}), now, ()) == ["soft-kd"]
    assert lost(now.model_copy(update={"comparisons": rows}), now, ("soft-kd",)) == []
    assert lost(aside(undistillable(), "failed", "soft-kd"), now, ()) == ["soft-kd"]
    assert lost(aside(undistillable(), "identical", "soft-kd"), now, ()) == []
    assert lost(now, now, ()) == []


@cache
def bag() -> dict[str, list[dict[str, tuple[Correct, Correct]]]]:
    """Return the students of every attack and their LS students, by method and teacher, of the shipped audits."""
    shipped_bag = shipped("bag-1")
    assert shipped_bag is not None
    controls = [control.correct.array() for control in shipped_bag.controls]
    found: dict[str, list[dict[str, tuple[Correct, Correct]]]] = {}
    for teacher in shipped_bag.teachers:
        if teacher.shots == 1:
            students = {row.attack: (row.correct.array(), controls[row.control]) for row in teacher.rows}
            found.setdefault(teacher.method, []).append(students)
    return found


def regresses(now: dict[str, tuple[Correct, Correct]], before: dict[str, tuple[Correct, Correct]]) -> bool:
    return min(holm([differing(now[name], before[name]).p_above(DELTA) for name in now])) < ALPHA


def test_no_teacher_of_the_bag_regresses_from_another_of_its_method() -> None:
    pairs = [pair for teachers in bag().values() for pair in permutations(teachers, 2)]
    assert len(pairs) == 78
    assert sum(regresses(*pair) for pair in pairs) == 0


def test_an_ordinary_teacher_regresses_from_an_undistillable_one() -> None:
    pairs = [(plain, cmim) for plain in bag()["plain"] for cmim in bag()["cmim"]]
    assert sum(regresses(now, before) for now, before in pairs) == len(pairs) == 9


def test_pairing_is_sharper_than_two_intervals() -> None:
    """Against the root of the sum of both margins' squared standard errors, as if the images were drawn twice."""
    ratios = [
        differing(now[name], before[name]).se / math.hypot(paired(*now[name]).se, paired(*before[name]).se)
        for teachers in bag().values()
        for now, before in combinations(teachers, 2)
        for name in now
    ]
    assert np.median(ratios) == pytest.approx(0.61, abs=0.005), "docs/gate.md says so"
