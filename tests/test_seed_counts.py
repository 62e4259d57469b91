"""Margins between students of unequally many seeds, and variance components against REML."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtri

from audit.statistics.compare import Margin, paired

Correct = NDArray[np.bool_]


def students(
    rng: np.random.Generator,
    seeds: tuple[int, int],
    images: int,
    *,
    seed_sd: float = 0.2,
    image_sd: float = 0.5,
    shared: float = 0.0,
) -> tuple[Correct, Correct]:
    """Draw a knockoff and a control that are right on 70 and 65 % of images; seeds' effects correlate by `shared`."""
    noise_sd = 0.3
    total = math.sqrt(1 + seed_sd**2 + image_sd**2 + noise_sd**2)
    difficulty, common = rng.standard_normal(images), rng.standard_normal((max(seeds), 1))
    knockoff, control = (
        float(ndtri(accuracy)) * total
        + difficulty
        + image_sd * rng.standard_normal(images)
        + seed_sd * (math.sqrt(shared) * common[:S] + math.sqrt(1 - shared) * rng.standard_normal((S, 1)))
        + noise_sd * rng.standard_normal((S, images))
        > 0
        for accuracy, S in zip((0.7, 0.65), seeds, strict=True)
    )
    return knockoff, control


def residual(scores: NDArray[np.float64]) -> float:
    """Return the mean square of what is left of scores (S, N) beside the effects of rows and columns."""
    S, N = scores.shape
    left = scores - scores.mean(1, keepdims=True) - scores.mean(0) + scores.mean()
    return float((left**2).sum()) / ((S - 1) * (N - 1))


def test_variance_between_unequal_counts_is_that_of_pairs_extra_seeds_and_images() -> None:
    S, M, N = 3, 7, 60
    knockoff, control = students(np.random.default_rng(1), (S, M), N, seed_sd=1.5)
    m = paired(knockoff, control)
    pairs = knockoff - S / M * control[:S]
    images = knockoff.mean(0) - control.mean(0)
    extra = (M - S) / M**2
    by_pairs = pairs.mean(1).var(ddof=1) / S
    by_extra = extra * control.mean(1).var(ddof=1)
    by_images = (images.var(ddof=1) - residual(pairs) / S - extra * residual(control.astype(float))) / N
    assert m.mean == pytest.approx(knockoff.mean() - control.mean())
    assert min(m.seed_variance, by_images) > 0  # nothing is cut off at zero
    assert m.se**2 == pytest.approx(by_pairs + by_extra + by_images)
    assert m.discordant == np.count_nonzero(knockoff != control[:S]) / S
    assert (m.seeds, m.crossed_df) == (S, M - 1)


@pytest.mark.parametrize("seeds", [(4, 4), (2, 3), (3, 12), (8, 3)])
@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_standard_error_is_right_on_average_however_many_seeds_each_side_has(
    seeds: tuple[int, int], shared: float
) -> None:
    rng = np.random.default_rng([2, *seeds])
    margins = [paired(*students(rng, seeds, 150, shared=shared)) for _ in range(1500)]
    actual = np.mean([(m.mean - 0.05) ** 2 for m in margins])
    assert np.mean([m.se**2 for m in margins]) == pytest.approx(actual, rel=0.13)  # three standard errors


@pytest.mark.parametrize("seeds", [(3, 4), (3, 20), (12, 10), (20, 10)])
@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_intervals_between_unequal_counts_hold_the_true_margin(seeds: tuple[int, int], shared: float) -> None:
    rng = np.random.default_rng([3, *seeds])
    held = 0
    for _ in range(500):
        low, high = paired(*students(rng, seeds, 300, seed_sd=0.1, shared=shared)).interval(0.95)
        held += low <= 0.05 <= high
    assert held / 500 >= 0.925


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(2, 6))
def test_swapping_the_students_mirrors_the_margin(seed: int, S: int, M: int) -> None:
    knockoff, control = students(np.random.default_rng(seed), (S, M), 40)
    forth, back = paired(knockoff, control).anywhere(), paired(control, knockoff).anywhere()
    assert forth.mean == pytest.approx(-back.mean)
    assert forth.interval() == pytest.approx(tuple(-bound for bound in reversed(back.interval())))
    assert forth.discordant == back.discordant


def test_more_seeds_of_the_control_sharpen_the_margin_on_average() -> None:
    def width(seeds: tuple[int, int]) -> float:
        rng = np.random.default_rng(4)
        return float(np.mean([paired(*students(rng, seeds, 200)).se for _ in range(200)]))

    assert width((4, 16)) < 0.95 * width((4, 5)) < width((4, 4))


def test_one_seed_on_either_side_allows_no_verdict() -> None:
    one, many = students(np.random.default_rng(5), (1, 4), 50)
    for m in (paired(one, many), paired(many, one)):
        assert m.degenerate
        assert m.anywhere().interval() == (-math.inf, math.inf)


def test_seeds_that_agree_by_luck_do_not_shorten_the_part_of_the_extra_seeds() -> None:
    rng = np.random.default_rng(6)
    knockoff = rng.random((3, 40)) < 0.7
    control = np.array([np.roll(np.arange(40) < 24, 7 * s) for s in range(6)])  # every seed is right on 24 images
    m = paired(knockoff, control)
    assert m.crossed == pytest.approx(3 / 36 * residual(control.astype(float)) / 40)
    assert control.mean(1).var() == 0


def test_variance_components_are_those_of_reml_on_balanced_data() -> None:
    pandas = pytest.importorskip("pandas")
    from statsmodels.regression.mixed_linear_model import MixedLM

    knockoff, control = students(np.random.default_rng(7), (6, 6), 30, seed_sd=0.5, image_sd=1.0)
    d = knockoff.astype(float) - control.astype(float)
    s, i = np.indices(d.shape)
    frame = pandas.DataFrame({"d": d.ravel(), "s": s.ravel(), "i": i.ravel()})
    effects = {"seed": "0 + C(s)", "image": "0 + C(i)"}
    model = MixedLM.from_formula("d ~ 1", frame, groups=np.ones(d.size), vc_formula=effects)
    theirs = model.fit(reml=True)
    ours: Margin = paired(knockoff, control)
    components = dict(zip(model.exog_vc.names, theirs.vcomp, strict=True))
    assert ours.seed_variance == pytest.approx(components["seed"], rel=0.01)
    assert ours.image_variance == pytest.approx(components["image"], rel=0.01)
    assert ours.residual == pytest.approx(theirs.scale, rel=0.01)
    assert ours.se == pytest.approx(float(theirs.bse_fe.iloc[0]), rel=0.01)
