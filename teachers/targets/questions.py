"""Count the queries of a probe before it runs, without torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BATCH = 256  # images that a probe asks about twice, as one batch


GROUPS = 8  # small batches in which the first images are asked about once more, each padded with copies of its first


GROUP = 8  # images in a small batch


SAMPLE = 1_024  # images, at most, on which each normalisation is tried: they show a difference of 1 % at p < 0.001


VIEWS = 256  # stored views that are asked about again after training, spread evenly over all that were asked


def drawn(images: int) -> NDArray[np.int64]:
    """Return the indices of the validation images that a probe asks about, in its order."""
    return np.random.default_rng(0).permutation(images)[:SAMPLE]


def queries(images: int, normalisations: int) -> int:
    """Return the number of queries of a probe, given the numbers of validation images and of normalisations to try."""
    most = min(images, SAMPLE)
    return 2 * min(most, BATCH) + min(most, GROUPS * GROUP) + normalisations * most


def spread(asked: int) -> NDArray[np.int64]:
    """Return which of the views asked before training are asked about again, by their place in the order."""
    return np.unique(np.linspace(0, asked - 1, VIEWS).round().astype(np.int64)) if asked else np.arange(0)


def again(images: int, asked: int) -> int:
    """Return the queries after training: a probe's validation images once, and those of the views twice."""
    return len(drawn(images)[:BATCH]) + 2 * len(spread(asked))
