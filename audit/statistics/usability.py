"""How useful the answers behind a surface are to honest users. Pure functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 15
RANKED = 5


def calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Return the expected calibration error: Σ |bin| / N · |accuracy − mean confidence| over 15 equal bins.

    Guo et al., On calibration of modern neural networks, ICML 2017, eq. 3. Bins are (m/15, (m+1)/15]; the first has 0.
    """
    p = confidence.astype(np.float64)
    bins = np.clip(np.ceil(p * BINS).astype(int) - 1, 0, BINS - 1)
    gap = np.bincount(bins, correct - p, BINS)
    return float(np.abs(gap).sum() / len(p))


def rankable(classes: NDArray[np.integer], known: int) -> float:
    """Return the share of answers that rank five classes, or all `known` ones if fewer; `classes`: (N,) counts."""
    return float((classes >= min(RANKED, known)).mean())
