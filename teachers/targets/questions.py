"""Count queries before they are made, without torch: a probe's, and those about the views that attacks declare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


def dealt(views: Sequence[int], paid: int) -> tuple[int, ...]:
    """Deal out `paid` views of an image to kinds that have so many `views`: one to each in turn, while it has some."""
    turns = [kind for view in range(max(views, default=0)) for kind, count in enumerate(views) if view < count][:paid]
    return tuple(turns.count(kind) for kind in range(len(views)))


def declared(kinds: Iterable[str], views: int, images: int, budget: int | None) -> dict[str, int]:
    """Return how many views of every kind, of all of an attacker's images, attacks ask about that declare `kinds`.

    These are kinds joined by +, of which each has so many views. None are asked where a budget does not pay for one of
    each image: such attacks ask about fewer images.
    """
    found: dict[str, int] = {}
    for parts in (kind.split("+") for kind in kinds):
        every = [views] * len(parts)
        counts = every if budget is None else dealt(every, budget // max(1, images))
        for part, count in zip(parts, counts, strict=True):
            found[part] = max(found.get(part, 0), count)
    return {kind: count for kind, count in found.items() if count}
