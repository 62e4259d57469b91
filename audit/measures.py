"""How much an auditor measures of a teacher, known before it is asked: without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BATCH = 256  # images that a probe asks twice, as one batch
GROUPS, GROUP = 8, 8  # small batches in which images are asked once more: each is filled up with copies of its first
SAMPLE = 1_024  # images, at most, that each normalisation is tried on: enough to see a point at p < 0.001
CMI_ENTRIES = 2_000_000  # log-probabilities kept of each pool; beyond that a stratified sample of its images
REPEATS = 0.995  # of the labels: a label-only attack is then its own control


def drawn(images: int) -> NDArray[np.int64]:
    """Return which of so many validation images a probe asks about, in its order."""
    return np.random.default_rng(0).permutation(images)[:SAMPLE]


def queries(images: int, normalisations: int) -> int:
    """Return what a probe asks where there are so many validation images, and normalisations to try."""
    most = min(images, SAMPLE)
    return 2 * min(most, BATCH) + min(most, GROUPS * GROUP) + normalisations * most


def measurable(counts: Sequence[int] | NDArray[np.int64]) -> bool:
    """Whether CMI and Γ can be estimated of images, by their number in each class: two classes with two images."""
    return sum(int(count) > 1 for count in counts) > 1
