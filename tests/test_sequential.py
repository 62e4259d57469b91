"""Group-sequential levels against published ones, the multivariate normal, and simulated audits."""

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from audit.statistics.compare import Margin, paired
from audit.statistics.sequential import HORIZON, LEAST, Looks, information, levels, looks, once, schedule, spent


def drawn(
    rng: np.random.Generator, seeds: int, images: int, seed_sd: float, gain: float = 0.0
) -> tuple[np.ndarray, ...]:
    """Draw right and wrong of knockoffs and controls, (S, N): effects of seeds and images, crossed."""
    ease = rng.normal(0, 1, images)
    students = []
    for extra in (gain, 0.0):
        own = ease + rng.normal(0, 0.3, images)
        latent = own + rng.normal(0, 0.2, (seeds, images)) + rng.normal(0, seed_sd, (seeds, 1)) + 0.5 + extra
        students.append(latent > 0)
    return tuple(students)


def test_levels_are_those_published_for_five_equal_looks() -> None:
    """Bounds of Pocock's type for one-sided 0.025, as the software of Reboussin et al. (2000) gives them."""
    found = norm.isf(levels((0.2, 0.4, 0.6, 0.8, 1.0), 0.025))
    assert found == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=6e-4)


@pytest.mark.parametrize("times", [(0.3, 0.7, 1.0), (0.62, 0.8, 0.93, 1.0), (0.05, 0.5)])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_crossings_have_the_probability_that_may_be_spent(times: tuple[float, ...], alpha: float) -> None:
    covariance = np.array([[math.sqrt(min(a, b) / max(a, b)) for b in times] for a in times])
    bounds = norm.isf(levels(times, alpha))
    for k in range(1, len(times) + 1):
        below = multivariate_normal(cov=covariance[:k, :k], seed=0, abseps=1e-8, maxpts=1_000_000).cdf(bounds[:k])
        assert 1 - below == pytest.approx(spent(times[k - 1], alpha), rel=5e-3)


def test_a_look_without_new_information_spends_nothing_and_takes_nothing_from_the_next() -> None:
    assert levels((0.5, 0.5 + LEAST / 2, 1.0), 0.05) == (levels((0.5,), 0.05)[0], 0.0, levels((0.5, 1.0), 0.05)[1])


def test_one_look_at_the_horizon_is_the_plain_test() -> None:
    margin = paired(*drawn(np.random.default_rng(0), 6, 2_000, 0.01, 0.05))
    fixed = once(margin)
    assert fixed.p_above() == margin.p_above()
    assert (fixed.lower(0.05), fixed.upper(0.05)) == pytest.approx((margin.lower(0.95), margin.upper(0.95)))


def test_p_is_the_smallest_alpha_at_which_a_bound_clears_the_value() -> None:
    knockoff, control = drawn(np.random.default_rng(3), 12, 3_000, 0.02, 0.06)
    found = looks(knockoff, control, (5, 8, 12))
    for value in (0.0, 0.005):
        p = found.p_above(value)
        assert 1e-12 < p < 0.5
        assert found.lower(p * 1.001) > value > found.lower(p * 0.999)


def test_information_grows_with_seeds_only_as_far_as_images_allow() -> None:
    base = {"mean": 0.0, "discordant": 100.0, "images": 1_000, "residual": 0.1}
    seeds_alone = Margin(seeds=5, between_seeds=1.0, between_images=0.1, **base)
    assert information(seeds_alone, HORIZON) == pytest.approx(5 / HORIZON)
    images_too = Margin(seeds=5, between_seeds=1.0, between_images=2.0, **base)
    assert 5 / HORIZON < information(images_too, HORIZON) < 1
    assert images_too.foreseen(5) == images_too
    assert images_too.foreseen(10).se ** 2 == pytest.approx(0.9 / 10 / 1_000 + 0.1 / 10_000 + 1.9 / 5_000)
    assert information(Margin(seeds=HORIZON, between_seeds=1.0, between_images=2.0, **base), HORIZON) == 1


def test_looks_at_fewer_seeds_say_less_surely_than_the_same_margin_at_the_horizon() -> None:
    margin = paired(*drawn(np.random.default_rng(1), 6, 2_000, 0.02, 0.05))
    assert Looks((margin,)).p_above() > margin.p_above()
    assert Looks((margin,)).upper(0.05) > margin.upper(0.95)


def test_schedules_begin_and_end_where_they_should_and_hold_what_was_seen() -> None:
    assert schedule(5, 20) == (5, 8, 13, 20)
    assert schedule(5, 5) == (5,)
    assert schedule(5, 3) == (3,)
    assert schedule(5, 13, seen=(7, 20)) == (5, 7, 8, 13)


@pytest.mark.slow
def test_stopping_at_the_first_success_keeps_the_error() -> None:
    """400 null audits of four looks: stopping as soon as p < 0.05 errs in at most 5 %, within three standard errors."""
    rng = np.random.default_rng(0)
    wrong = naive = 0
    for _ in range(400):
        knockoff, control = drawn(rng, 20, 500, 0.02)
        found = looks(knockoff, control, (5, 8, 13, 20))
        wrong += found.p_above() < 0.05
        naive += any(m.p_above() < 0.05 for m in found.margins)
    assert wrong / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert naive > wrong
