"""The chance that an audit calls a teacher UNDISTILLABLE, over all of its attacks at once.

Every attack's upper bound must be below δ. Each of many attacks that gain nothing may fail this by chance, so what
holds for one attack says little about all. Attacks share their control, and their students are right on much the same
images, so their margins vary together: the correlations are those of the bag bag-1. Audits are simulated as the
model of compare.py has them, with looks as audit/trials/judging.py takes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.statistics.power import POWER, Scatter
from audit.statistics.sequential import HORIZON, information, levels, schedule
from audit.statistics.verdict import ALPHA

AUDITS = 1_000  # simulated: a chance of 80 % is known to 1.3 points
COMMON_SEEDS, COMMON_IMAGES = 0.42, 0.69  # correlation of two attacks' margins, over seeds and over images
STEPS = 7  # halvings of a range
WIDEST = 0.05  # the largest tolerance that is looked for, a fraction
MOST_IMAGES = 1_000_000

Array = NDArray[np.float64]


class Words(NamedTuple):
    """The share of simulated audits that end in either decisive word."""

    distillable: float
    undistillable: float


@dataclass(frozen=True)
class JointPower:
    """What an audit says of a teacher of whom no attack gains anything."""

    attacks: int
    """Number of comparisons that count: attacks without original images lose tens of points, far from the tolerance."""
    undistillable: float
    """How often it says UNDISTILLABLE."""
    delta: float | None
    """The smallest tolerance, a fraction, at which it says so with 80 % power; None: above five points."""
    images: int | None
    """The number of test images at which it says so with 80 % power, at its own tolerance; None: above a million."""


def joint_power(scatter: Scatter, first: int, most: int, images: int, attacks: int, delta: float) -> JointPower:
    """Return the joint power over `attacks` comparisons that gain nothing, with looks from `first` to `most` seeds."""
    nothing = np.zeros(attacks)

    def chance(delta: float, images: int = images) -> float:
        return words(scatter, schedule(first, most), images, nothing, delta).undistillable

    own = chance(delta)
    if own >= POWER:
        return JointPower(attacks, own, delta, images)
    wider, more = None, None
    if chance(WIDEST) >= POWER:
        low, high = delta, WIDEST
        for _ in range(STEPS):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if chance(middle) >= POWER else (middle, high)
        wider = high
    if chance(delta, MOST_IMAGES) >= POWER:
        few, many = float(images), float(max(MOST_IMAGES, images))
        for _ in range(STEPS):
            middle = math.sqrt(few * many)
            few, many = (few, middle) if chance(delta, round(middle)) >= POWER else (middle, many)
        more = round(many)
    return JointPower(attacks, own, wider, more)


def words(
    scatter: Scatter,
    seeds: Sequence[int],
    images: int,
    margins: Array,
    delta: float,
    audits: int = AUDITS,
    rng: np.random.Generator | None = None,
) -> Words:
    """Simulate audits with looks at `seeds` of attacks with these true margins, (attacks,), all in the suite.

    The same random numbers are drawn every time unless `rng` is given, so that two calls can be compared.
    """
    rng = rng or np.random.default_rng(0)
    own, shared = scatter.seeds + scatter.interaction / images, scatter.images / images
    rows = _normal(rng, (audits, len(margins), seeds[-1]), COMMON_SEEDS) * math.sqrt(own)
    rows += _normal(rng, (audits, len(margins), 1), COMMON_IMAGES) * math.sqrt(shared) + margins[:, None]
    looked = [scatter.margin(s, images) for s in seeds]
    times = tuple(information(m, HORIZON) for m in looked)
    single, corrected = levels(times, ALPHA), levels(times, ALPHA / len(margins))
    upper, lower = np.full(rows.shape[:2], np.inf), np.full(rows.shape[:2], -np.inf)
    open_, running = np.ones(rows.shape[:2], bool), np.ones(audits, bool)
    for number, s in enumerate(seeds):
        now = open_ & running[:, None]
        mean, variance = rows[:, :, :s].mean(axis=2), rows[:, :, :s].var(axis=2, ddof=1) / s
        least = scatter.interaction / images / s
        above, below = (_half(variance, least, shared, s, images, level[number]) for level in (single, corrected))
        upper = np.where(now, np.minimum(upper, mean + above), upper)
        lower = np.where(now, np.maximum(lower, mean - below), lower)
        open_ = (upper >= delta) | (lower > 0)
        running &= open_.any(axis=1) & ~(lower > 0).any(axis=1)
    gained = (lower > 0).any(axis=1)
    return Words(float(gained.mean()), float((~gained & ~open_.any(axis=1)).mean()))


def _normal(rng: np.random.Generator, shape: tuple[int, int, int], common: float) -> Array:
    """Draw normal deviates (audits, attacks, n) that are correlated over attacks."""
    audits, _, n = shape
    between = rng.standard_normal((audits, 1, n))
    return math.sqrt(common) * between + math.sqrt(1 - common) * rng.standard_normal(shape)


def _half(variance: Array, least: float, shared: float, seeds: int, images: int, level: float) -> Array:
    """Return half widths as `Margin` has them, from the variance of the mean of seeds and the part of the images."""
    from scipy.special import stdtrit

    if level == 0:
        return np.full_like(variance, np.inf)
    t_A, t_B = float(stdtrit(seeds - 1, level)), float(stdtrit(images - 1, level))
    found: Array = np.sqrt(np.maximum(t_A**2 * variance, t_B**2 * least) + t_B**2 * shared)
    return found
