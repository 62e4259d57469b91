"""How sure others would be of the same students: each knows one of the two sources of chance."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.special import ndtri, stdtrit

from audit.statistics.compare import Margin

HalfWidth = Callable[[Margin, float], float]


def t_over_seeds(m: Margin, tail: float) -> float:
    """Give the half width of the paired t-test over seeds, of one-sided error `tail`: blind to the chance of images."""
    return math.sqrt(m.between_seeds / (m.seeds * m.images)) * float(-stdtrit(m.seeds - 1, tail))


def bootstrap_over_images(m: Margin, tail: float) -> float:
    """Give the half width of the bootstrap over images, in its normal approximation: blind to the chance of training.

    Resampling images of the mean over seeds has the variance of the mean square between images.
    """
    return math.sqrt(m.between_images / (m.seeds * m.images)) * float(-ndtri(tail))


def satterthwaite(m: Margin, tail: float) -> float:
    """Give the half width from both sources with a single t, of Satterthwaite's (1946) degrees of freedom."""
    return m.se * float(-stdtrit(m.df, tail)) if m.df else 0.0
