"""How much a probe asks of a teacher, known before it is asked: without torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BATCH = 256  # images that a probe asks twice, as one batch


GROUPS = 8  # small batches in which images are asked once more: each is filled up with copies of its first


GROUP = 8  # images of one


SAMPLE = 1_024  # images, at most, that each normalisation is tried on: enough to see a point at p < 0.001


def drawn(images: int) -> NDArray[np.int64]:
    """Return which of so many validation images a probe asks about, in its order."""
    return np.random.default_rng(0).permutation(images)[:SAMPLE]


def queries(images: int, normalisations: int) -> int:
    """Return what a probe asks where there are so many validation images, and normalisations to try."""
    most = min(images, SAMPLE)
    return 2 * min(most, BATCH) + min(most, GROUPS * GROUP) + normalisations * most
