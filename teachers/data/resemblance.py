"""Near-duplicates among test images, found by distances between thumbnails."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from teachers.data.stored import taken
from teachers.task import Images, Task

Distances = NDArray[np.float32]

SIDE = 16  # pixels per side of a thumbnail, at most about twice as many
MOST, RUN = 5_000, 50  # test images that are compared, at most; of more, runs of so many in a row
SAME = 0.01  # squared distance of near-duplicates, as a share of an image's median one to all others
ALONE = 16  # squared distance, as a multiple of a copy's, within which are at most about twice as many images
ALIKE = 0.1  # as SAME, where nothing like it is in the other splits
NEARER = 0.5  # a copy is nearer than the nearest image of another split by this factor, squared
EXCESS = 0.1  # share of images whose nearest test image is so near, over that whose nearest other image is
BLOCK = 500


def near_duplicates(task: Task) -> NDArray[np.uint32] | None:
    """Return groups of near-duplicate test images, (N,), numbered from 0 by first image; None where there are none.

    Two images are near-duplicates if their thumbnails are nearly equal, and few others are nearly as near; or if they
    are much nearer to each other than to images of the other splits, where many images are: of independent images, as
    many are so near to an image of another split as to another test image, whatever the data. Images of a class that
    are not copies look alike, too, so all distances are relative.
    """
    chosen = compared(len(task.test))
    if len(chosen) < 3:
        return None
    own = thumbnails(taken(task.test.images, chosen))
    others = [thumbnails(taken(pool.images, compared(len(pool)))) for pool in (task.train, task.validation)]
    found = linked(own, np.concatenate(others)[: len(own)])
    groups = np.arange(len(task.test))
    for a, b in components(len(chosen), found):
        groups[chosen[b]] = chosen[a]
    if (groups == np.arange(len(groups))).all():
        return None
    return np.unique(groups, return_inverse=True)[1].astype(np.uint32)


def compared(images: int) -> NDArray[np.int64]:
    """Return which images are compared: all, or runs of neighbours, as frames of a film are often listed."""
    if images <= MOST:
        return np.arange(images)
    starts = np.random.default_rng(0).permutation(images // RUN)[: MOST // RUN] * RUN
    return (np.sort(starts)[:, None] + np.arange(RUN)).ravel()


def thumbnails(images: Images) -> Distances:
    """Shrink images (N, C, H, W) to small ones, (N, values)."""
    N, C, H, W = images.shape
    h, w = max(1, H // SIDE), max(1, W // SIDE)
    found = np.empty((N, C * (H // h) * (W // w)), np.float32)
    for at in range(0, N, BLOCK):
        part = images[at : at + BLOCK, :, : H // h * h, : W // w * w].astype(np.float32)
        found[at : at + BLOCK] = part.reshape(len(part), C, H // h, h, W // w, w).mean((3, 5)).reshape(len(part), -1)
    return found


def linked(own: Distances, others: Distances) -> NDArray[np.int64]:
    """Return pairs of near-duplicates among thumbnails (N, values), (pairs, 2); `others`: of other splits."""
    middle = own.mean(0)
    own, others = own - middle, others - middle
    median, nearest = np.empty(len(own), np.float32), np.full(len(own), np.inf, np.float32)
    copies, near = [], []
    for at in range(0, len(own), BLOCK):
        d = squared(own[at : at + BLOCK], own)
        rows = np.arange(len(d))
        d[rows, at + rows] = np.inf
        m = np.median(d, axis=1)  # of finite ones and one infinite
        median[at : at + BLOCK] = m
        if len(others):
            nearest[at : at + BLOCK] = squared(own[at : at + BLOCK], others).min(1)
        m, top = m[:, None], np.array([at, 0])
        copies.append(alone(d, np.argwhere(d <= SAME * m)) + top)
        near.append((d.min(1), np.argwhere(d <= ALIKE * m) + top, d[d <= ALIKE * m]))
    pairs: NDArray[np.int64] = np.concatenate(copies)
    closest = np.concatenate([part[0] for part in near])
    small = np.minimum(closest, nearest) <= ALIKE * median
    excess = (small & (closest <= NEARER * nearest)).mean() - (small & (nearest <= NEARER * closest)).mean()
    if 2 * len(others) < len(own) or excess < EXCESS:
        return pairs
    alike, d = np.concatenate([part[1] for part in near]), np.concatenate([part[2] for part in near])
    i, j = alike.T
    more: NDArray[np.int64] = alike[d <= NEARER * np.minimum(nearest[i], nearest[j])]
    return np.concatenate([pairs, more])


def alone(d: Distances, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep the pairs (row, column) of distances (n, N) that are far nearer than what else there is.

    Independent images lie as dense everywhere: in three dimensions, 64 times as many are within ALONE = 4² times the
    squared distance. Of a film, it is the other frames.
    """
    kept = np.zeros(len(pairs), bool)
    for row in np.unique(pairs[:, 0]):
        mine = pairs[:, 0] == row
        near, every = d[row, pairs[mine, 1]], np.sort(d[row])
        within, beyond = (np.searchsorted(every, reach * near, side="right") for reach in (1, ALONE))
        kept[mine] = beyond <= 2 * within + 1
    return pairs[kept]


def squared(a: Distances, b: Distances) -> Distances:
    """Return the squared distances of rows (n, values) and (m, values), (n, m)."""
    found: Distances = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)
    return found


def components(number: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each linked image beside the first of its component, (links, 2)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(number, number))
    _, label = connected_components(graph, directed=False)
    first = np.unique(label, return_index=True)[1][label]
    linked = np.flatnonzero(first != np.arange(number))
    return np.stack([first[linked], linked], axis=1)
