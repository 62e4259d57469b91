"""Proportions: tests and intervals of one classifier, and of two on the same images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Correct = NDArray[np.bool_]


def majority(labels: NDArray[np.integer[Any]]) -> float:
    """Return the share of the largest class: the accuracy of always naming it."""
    return float(np.bincount(labels).max() / len(labels))


def mcnemar(better: Correct, other: Correct) -> float:
    """Return the exact one-sided p-value of "`better` is not more often right than `other`" on the same images (N,).

    McNemar (1947): only images on which the two differ count. It ignores the randomness of training.
    """
    from scipy.special import bdtrc

    if better.shape != other.shape:
        raise ValueError(f"students {better.shape} and {other.shape} must hold the same images")
    gained = int(np.count_nonzero(better & ~other))
    lost = int(np.count_nonzero(other & ~better))
    return float(bdtrc(gained - 1, gained + lost, 0.5)) if gained else 1.0


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's (1927) score interval of a proportion; both counts may be effective ones."""
    from scipy.special import ndtri

    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} cannot be")
    if n == 0:
        return 0.0, 1.0
    z = float(ndtri((1 + level) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


LEVEL = 0.001  # p-value below which a difference is significant
