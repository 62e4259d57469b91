"""Look at the clusters that a teacher's answers form: their means, who lies far from them, and two maps of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import rel_entr, softmax

from audit.statistics.cmi import Answers, Floats, Labels

VERTICES = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])

_TIE = 1e-8  # of the whole variance: directions that differ by less are known to less than six digits
_STILL = 1e-12  # variance of √P, of 1, below which there is nothing but rounding
_ENTRIES = 2_000_000  # read at once, over images and classes


class Survey(NamedTuple):
    """What every answer of a labelled sample says at temperature 1."""

    means: Floats  # (K, K) the mean answer Q_y of each class; zeros where it has no image
    divergence: Floats  # (N,) KL(P_x ‖ Q_y) in nats
    middle: Floats  # (K,) mean of √P_x
    axes: Floats  # (K, 2) the directions in which √P_x varies most
    explained: tuple[float, float]  # share of its variance along each
    distinct: bool  # whether no other directions will do: the same axes on every processor


def survey(log_p: Answers, y: Labels) -> Survey:
    """Read log-probabilities (N, K), in memory or mapped from a file, class by class; y: labels (N,).

    The axes are principal components of √P, between which Euclidean distance is Hellinger's, up to √2.
    """
    N, K = log_p.shape
    means, divergence = np.zeros((K, K)), np.empty(N)
    middle, products = np.zeros(K), np.zeros((K, K))
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        for part in _parts(rows, K):
            means[label] += softmax(np.asarray(log_p[part], np.float64), 1).sum(0) / len(rows)
        for part in _parts(rows, K):
            P = softmax(np.asarray(log_p[part], np.float64), 1)
            divergence[part] = rel_entr(P, np.maximum(means[label], np.finfo(np.float64).tiny)).sum(1)
            root = np.sqrt(P)
            middle += root.sum(0) / N
            products += root.T @ root / N
    covariance = products - np.outer(middle, middle)
    variances, directions = np.linalg.eigh(covariance)
    axes = directions[:, [-1, -2]]
    axes *= np.sign(axes[np.abs(axes).argmax(0), [0, 1]])  # an eigenvector's sign is arbitrary
    total = max(float(np.trace(covariance)), _STILL)
    share = np.maximum(variances[[-1, -2]], 0) / total
    distinct = bool((np.diff(variances[-3:]) > _TIE * total).all()) and total > _STILL
    return Survey(means, divergence, middle, axes, (float(share[0]), float(share[1])), distinct)


def _parts(rows: np.ndarray, K: int) -> Iterator[np.ndarray]:
    yield from np.array_split(rows, -(-len(rows) * K // _ENTRIES))


def projected(P: Floats, found: Survey) -> Floats:
    """Place probabilities (n, K) on the two principal axes of √P, (n, 2)."""
    return (np.sqrt(P) - found.middle) @ found.axes


def most_confused(means: Floats) -> tuple[int, int, int]:
    """Return the two classes whose mean answers (K, K) name each other most, and the third that both name most.

    Of equals, the first: sums are compared to nine digits, whatever a processor makes of the others.
    """
    shared = (means + means.T).round(9)
    np.fill_diagonal(shared, -1)
    a, b = np.unravel_index(shared.argmax(), shared.shape)
    third = shared[a] + shared[b]
    third[[a, b]] = -2
    return int(a), int(b), int(third.argmax())


def barycentric(log_p: Answers) -> Floats:
    """Place log-probabilities of three classes (n, 3), renormalised, in the equilateral triangle of `VERTICES`."""
    finite = np.maximum(np.asarray(log_p, np.float64), -1e30)
    placed: Floats = softmax(finite, 1) @ VERTICES
    return placed
