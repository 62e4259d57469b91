"""Students that collapsed count as trained again: by validation alone, by one rule for both sides."""

import numpy as np
import pytest
from numpy.typing import NDArray

from audit.analysis.protocol_flags import erratic_control
from audit.analysis.results import ResultArrays
from audit.statistics.collapses import FAR, MOST, pairs, passing

Bits = NDArray[np.bool_]


def students(*accuracies: float, images: int = 4_000) -> Bits:
    """Return students of exactly these accuracies, (S, images)."""
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(np.arange(images) < round(a * images)) for a in accuracies])


def healthy(seeds: int, rng: np.random.Generator, sd: float = 0.006) -> tuple[float, ...]:
    return tuple(rng.normal(0.7, sd, seeds).tolist())


@pytest.mark.parametrize("seeds", [5, 10, 20])
@pytest.mark.parametrize("points", [4, 10, 20])
def test_a_student_points_below_its_siblings_would_be_trained_again(seeds: int, points: float) -> None:
    """4 points are more than 6 of the standard deviations that these students have."""
    accuracies = [*healthy(seeds - 1, np.random.default_rng(seeds)), 0.7 - points / 100]
    assert passing(students(*accuracies)).tolist() == [True] * (seeds - 1) + [False]


def test_it_is_seen_where_most_collapse_and_nothing_is_where_three_seeds_do_not_say_what_is_the_rule() -> None:
    assert passing(students(0.6, 0.7, 0.601, 0.702, 0.599)).tolist() == [False, True, False, True, False]
    assert passing(students(0.5, 0.7, 0.701)).all()
    assert passing(students(0.5)).all()


def test_half_of_an_even_number_collapse() -> None:
    good = [0.7, 0.702, 0.704, 0.706, 0.708]
    bad = [a - 0.1 for a in good]
    assert passing(students(*good, *bad)).tolist() == [True] * 5 + [False] * 5


def test_students_that_agree_by_luck_do_not_make_the_next_one_a_collapse() -> None:
    """The scale is never less than that of so many independent answers: 0.7 points at 4,000 images."""
    assert passing(students(0.7, 0.7, 0.7, 0.7, 0.69)).all()


@pytest.mark.parametrize("sd", [0.002, 0.006, 0.03])
def test_healthy_students_are_rarely_set_aside_however_they_scatter(sd: float) -> None:
    rng = np.random.default_rng(0)
    found = [passing(students(*healthy(10, rng, sd), images=500)) for _ in range(300)]
    assert np.mean(found) > 0.98
    assert np.mean([1 - kept.mean() > MOST for kept in found]) < 0.01


def test_both_sides_lose_the_seed_of_which_one_student_collapsed() -> None:
    mine, theirs = students(0.72, 0.72, 0.55, 0.721, 0.719), students(0.7, 0.4, 0.7, 0.701, 0.699)
    assert pairs(mine, theirs).tolist() == pairs(theirs, mine).tolist() == [True, False, False, True, True]
    few = students(0.7, 0.701, 0.699, 0.3, 0.31), students(0.3, 0.31, 0.32, 0.7, 0.701)
    assert pairs(*few).all(), "no pair is left: all count"


def arrays(validation: Bits, test: Bits, **more: bool) -> ResultArrays:
    labels = np.zeros(test.shape[1], np.int64)
    seen = np.zeros(validation.shape[1], np.int64)
    number = {f"{i}": i for i in range(len(test))}
    return ResultArrays(
        labels, seen, (), lambda k: test[[number[i] for i in k]], lambda k: validation[[number[i] for i in k]], **more
    )


def test_a_margin_is_that_of_the_students_that_pass_on_validation_whatever_they_do_on_the_test_split() -> None:
    mine, theirs = ["0", "1", "2", "3", "4"], ["5", "6", "7", "8", "9"]
    validation = students(0.7, 0.4, *healthy(8, np.random.default_rng(1)))
    test = students(*[0.8] * 4, 0.2, *[0.75] * 5)
    found = arrays(validation, test).margins(mine, theirs, (4, 5))
    assert [m.seeds for m in found.margins] == [3, 4]
    assert found.last.mean == pytest.approx((0.8 * 3 + 0.2) / 4 - 0.75), "the test split sets no student aside"
    earlier = arrays(validation, test, retrains=False).margins(mine, theirs, (4, 5))
    assert [m.seeds for m in earlier.margins] == [4, 5]


def test_students_are_their_controls_only_where_they_are_right_on_the_same_images_of_both_splits() -> None:
    validation, test = (np.random.default_rng(seed).random((4, 200)) < 0.7 for seed in (1, 2))
    validation[2:], test[2:] = validation[:2], test[:2]
    mine, theirs = ["0", "1"], ["2", "3"]
    assert arrays(validation, test).same(mine, theirs)
    assert not arrays(validation, test).same(mine, ["3", "2"]), "they are paired by seed"
    assert not arrays(validation, test).same(mine, ["2"])
    for split in (validation, test):
        split[3, 0] ^= True
        assert not arrays(validation, test).same(mine, theirs)
        split[3, 0] ^= True
    perfect = np.ones((4, 200), bool)
    assert not arrays(perfect, perfect).same(mine, theirs), "students without mistakes are alike, however they learn"


def test_many_collapses_are_flagged_of_a_control_with_both_words() -> None:
    assert erratic_control(0.1, MOST, (MOST, "mine")) is None
    attack, control = erratic_control(0.1, 0.0, (0.4, "mine")), erratic_control(0.1, 0.3, (0.4, "mine"))
    assert attack is not None
    assert control is not None
    assert (attack.caps, control.caps) == ("undistillable", "inconclusive")
    assert "40% of the students of mine" in attack.found
    assert "30%" in control.found
    assert FAR == 3
