"""Margins over groups of test images: against brute force, and by simulation."""

import numpy as np
import pytest
from drawn_students import students
from numpy.typing import NDArray
from scipy.special import stdtrit

from audit.analysis.student_flags import small_test
from audit.statistics.compare import Margin, above, differing, over_images, over_teachers, paired
from audit.statistics.image_groups import Units, design_effect
from audit.statistics.power import Scatter, power
from audit.statistics.sequential import once
from audit.statistics.verdict import Finding, rule, usable

Floats = NDArray[np.float64]


def drawn(seed: int = 0, images: int = 120) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw three students of four, four and six seeds."""
    rng = np.random.default_rng(seed)
    return tuple(rng.random((s, images)) < p for s, p in ((4, 0.8), (4, 0.7), (6, 0.6)))  # type: ignore[return-value]


def every(groups: NDArray[np.int64] | None, repeat: int = 1) -> dict[str, Margin]:
    """Return a margin of every kind, with every image `repeat` times."""
    a, b, c = (np.repeat(one, repeat, axis=1) for one in drawn())
    return {
        "paired": paired(a, b, groups),
        "more controls": paired(a, c, groups),
        "more knockoffs": paired(c, a, groups),
        "differing": differing((a, b), (b, a), groups),
        "differing, unequal": differing((a, b), (c, c[::-1]), groups),
        "above": above(a, 0.3, groups),
        "over teachers": over_teachers(np.stack([a, b, ~a]), b, groups),
    }


def test_groups_of_one_image_are_no_groups() -> None:
    order = np.random.default_rng(1).permutation(120)
    assert every(order) == every(None)
    scores = drawn()[0].astype(np.int8)
    assert over_images(scores, order) == over_images(scores)


def test_images_that_are_there_three_times_say_as_much_as_once() -> None:
    """Sixty twins of one picture are no evidence beyond the one; the group makes that exact."""
    once, thrice = every(None), every(np.repeat(np.arange(120), 3), repeat=3)
    for name, margin in once.items():
        other = thrice[name]
        assert other.images == 3 * margin.images
        assert other.independent == pytest.approx(120)
        assert (other.mean, other.evidence) == (pytest.approx(margin.mean), margin.evidence), name
        assert other.interval() == pytest.approx(margin.interval()), name
        assert (other.se, other.df) == (pytest.approx(margin.se), pytest.approx(margin.df)), name
    scores = drawn()[0].astype(np.int8)
    groups = np.repeat(np.arange(120), 3)
    assert over_images(np.repeat(scores, 3, axis=1), groups) == pytest.approx(over_images(scores))


def left_out(d: Floats, groups: NDArray[np.int64]) -> float:
    """Return the variance of a mean by leaving out one group after the other, (N,)."""
    means = [d[groups != g].mean() for g in np.unique(groups)]
    G = len(means)
    return float((G - 1) / G * sum((m - d.mean()) ** 2 for m in means))


@pytest.mark.parametrize("seed", range(4))
def test_the_image_part_is_the_jackknife_over_groups_of_any_size(seed: int) -> None:
    a, b, _ = drawn(seed)
    groups = np.random.default_rng(seed).permutation(
        np.repeat(np.arange(15), [1, 1, 1, 2, 2, 2, 3, 5, 7, 9, 11, 13, 16, 20, 27])
    )
    m = paired(a, b, groups)
    d = a.astype(float) - b  # (S, N)
    S, N = d.shape
    assert m.between_images / (S * N) == pytest.approx(left_out(d.mean(0), groups))
    interaction = d - d.mean(0) - d.mean(1, keepdims=True) + d.mean()
    each = sum(left_out(row, groups) for row in interaction)
    assert m.residual / N == pytest.approx(each / (S - 1))
    n = np.bincount(groups).astype(float)
    assert m.image_df == pytest.approx((n**2).sum() ** 2 / (n**4).sum() - 1)


def test_with_unequal_seeds_the_image_part_is_that_of_the_whole_difference() -> None:
    a, _, c = drawn()
    groups = np.arange(120) // 6
    m = paired(a, c, groups)
    whole = left_out(a.mean(0) - c.mean(0), groups)
    alone = paired(c, np.zeros_like(c), groups)
    S, M, N = 4, 6, 120
    assert m.between_images / (S * N) == pytest.approx(whole - (M - S) / M**2 * alone.residual / N)


def test_a_bound_over_images_is_the_t_bound_over_group_sums() -> None:
    scores = drawn()[0].astype(np.int8)
    groups = np.arange(120) // 6
    found = over_images(scores, groups)
    se = left_out(scores.mean(0), groups) ** 0.5
    assert found.lower == pytest.approx(scores.mean() + float(stdtrit(19, 0.05)) * se)


def test_evidence_counts_groups() -> None:
    a = np.zeros((2, 12), bool)
    b = a.copy()
    b[0, :4], b[1, 0] = True, True
    assert (paired(a, b, np.arange(12) // 4).evidence, paired(a, b, np.arange(12) // 4).discordant) == (1, 2.5)
    assert paired(a, b, np.arange(12) // 2).evidence == 1.5
    assert paired(a, b).evidence == 2.5
    assert above(b, 0.5, np.arange(12) // 4).evidence == 1


def test_fewer_than_thirty_discordant_groups_support_no_verdict() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((5, 2_000)) < 0.8, rng.random((5, 2_000)) < 0.7
    few, many = (paired(a, b, np.arange(2_000) // size) for size in (80, 40))
    assert [usable(m) for m in (paired(a, b), few, many)] == [True, False, True]
    found = Finding(attack="dkd", status="judged", looks=once(few), passes=True)
    assert "too few discordant groups of images (25 expected, 30 needed)" in rule([found], (), complete=True).reasons[0]


def test_one_group_supports_no_verdict() -> None:
    a, b, _ = drawn()
    assert paired(a, b, np.zeros(120, np.int64)).degenerate
    most = np.r_[np.zeros(110, np.int64), np.arange(1, 11)]  # one film and ten stills
    assert paired(a, b, most).degenerate


def test_the_number_of_a_group_and_the_order_of_images_mean_nothing() -> None:
    a, b, _ = drawn()
    groups = np.arange(120) // 5
    order = np.random.default_rng(3).permutation(120)
    assert paired(a[:, order], b[:, order], 1_000 - 7 * groups[order]) == paired(a, b, groups)


def test_groups_must_fit_the_images() -> None:
    a, b, _ = drawn()
    for bad in (np.arange(119), np.zeros(120), np.zeros((1, 120), np.int64)):
        with pytest.raises(ValueError, match="expected 120 group numbers"):
            paired(a, b, bad)


def test_the_design_effect_is_the_size_of_groups_whose_images_agree() -> None:
    rng = np.random.default_rng(0)
    right, groups = rng.random(4_000) < 0.7, np.arange(4_000) // 10
    assert design_effect(groups, np.repeat(right[:400], 10)) == pytest.approx(10, rel=0.01)
    assert 1 <= design_effect(groups, right) < 1.3
    assert design_effect(groups, np.ones(4_000, bool)) == 1


SIZES = {
    "1": (1,),
    "2": (2,),
    "5": (5,),
    "20": (20,),
    "1 to 40": (1, 1, 2, 3, 5, 10, 20, 40),
}


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES)
def test_the_interval_covers_as_often_as_it_says(sizes: str) -> None:
    """Images of a group share their difficulty and both models' image effects; 1,000 audits of each kind."""
    rng = np.random.default_rng(len(sizes))
    groups = np.repeat(np.arange(400), np.resize(SIZES[sizes], 400))[:2_000]
    inside, draws = 0, 1_000
    for _ in range(draws):
        a, b = students(rng, 5, int(groups.max()) + 1, [0.75, 0.75], seed_sd=0.02, image_sd=0.5)
        low, high = paired(a[:, groups], b[:, groups], groups).interval()
        inside += low <= 0 <= high
    assert inside / draws > 0.95 - 3 * (0.05 * 0.95 / draws) ** 0.5


def test_units_add_up_within_groups() -> None:
    units = Units(6, np.array([2, 0, 2, 1, 0, 2]))
    assert units.sums(np.array([[1, 2, 3, 4, 5, 6]])).tolist() == [[7, 4, 10]]
    assert units.independent == pytest.approx((1 + 4 + 9) ** 2 / (1 + 16 + 81))


def test_what_endless_seeds_would_leave_and_what_a_plan_foresees_count_groups() -> None:
    m = Margin(
        mean=0.0,
        seeds=5,
        images=400,
        discordant=100,
        between_seeds=0.1,
        between_images=0.4,
        residual=0.1,
        independent=4,
    )
    se = (m.image_variance / 400) ** 0.5
    flag = small_test({"dkd": m})
    assert flag is not None
    assert f"±{-100 * float(stdtrit(3, 0.05)) * se:.2f} points" in flag.found
    found = Scatter(1e-6, 0.05, 0.1, "drawn")
    alone, few = (power(found, 5, 10, 6_200, 8, independent=independent) for independent in (None, 20.0))
    assert few.gain > alone.gain
    assert few.resistance < alone.resistance
