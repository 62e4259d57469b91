"""What more steps add is bounded over seeds, too: two seeds of tuning that are lucky are no lack of convergence."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from audit.statistics.compare import Margin, more_steps, over_images, paired

SD = 0.006  # of a margin over seeds
JUDGED, TUNED, IMAGES = 5, 2, 5_000


def margins(truth: float, seeds: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Draw what seeds score on every image, (seeds, images): −1, 0 or 1."""
    mean = truth + SD * rng.standard_normal((seeds, 1))
    where = rng.random((seeds, IMAGES))
    return ((where < 0.03 + mean / 2).astype(np.int8) - (where > 0.97 + mean / 2)).astype(np.int8)


def usual(rng: np.random.Generator) -> Margin:
    d = margins(0.0, JUDGED, rng)
    return paired(d > 0, d < 0)


def bounds(growth: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return the lower bounds over images and seeds, and over images alone."""
    scores = margins(growth, TUNED, rng) - margins(0.0, TUNED, rng)
    return more_steps(scores, [usual(rng), usual(rng)]).lower, over_images(scores).lower


def test_students_that_do_not_grow_are_rarely_called_growing() -> None:
    rng = np.random.default_rng(0)
    found = np.array([bounds(0.0, rng) for _ in range(600)]) > 0
    assert found[:, 0].mean() < 0.05
    assert found[:, 1].mean() > 0.2, "over images alone, every fifth audit was capped by luck"


def test_students_that_grow_by_points_are_called_so() -> None:
    rng = np.random.default_rng(1)
    found = np.array([bounds(0.03, rng) for _ in range(100)]) > 0
    assert found[:, 0].mean() > 0.9


def test_the_bound_by_its_formula() -> None:
    rng = np.random.default_rng(2)
    scores, one = margins(0.01, 3, rng) - margins(0.0, 3, rng), usual(rng)
    by_image, by_seed = scores.mean(axis=0), scores.mean(axis=1)
    pooled = ((JUDGED - 1) * 2 * one.between_seeds / IMAGES + 2 * by_seed.var(ddof=1)) / (JUDGED - 1 + 2)
    seeds = stats.t.ppf(0.95, JUDGED - 1 + 2) ** 2 * pooled / 3
    images = stats.t.ppf(0.95, IMAGES - 1) ** 2 * by_image.var(ddof=1) / IMAGES
    found = more_steps(scores, [one])
    assert found.mean == pytest.approx(scores.mean())
    assert found.lower == pytest.approx(scores.mean() - math.sqrt(seeds + images))
    assert more_steps(scores, []) == over_images(scores)
