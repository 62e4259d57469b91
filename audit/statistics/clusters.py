"""Describe the clusters that a teacher's answers form: class means, distances from them, and two-dimensional maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import rel_entr, softmax

from audit.statistics.cmi import Answers, Floats, Labels

VERTICES = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])

_TIE = 1e-8  # share of the total variance; directions whose variances are closer are known to fewer than six digits
_STILL = 1e-12  # total variance of √P (at most 1) below which there is only rounding error
_ENTRIES = 2_000_000  # images × classes that are read at once


class Survey(NamedTuple):
    """Summary of a labelled sample's answers at temperature 1."""

    means: Floats  # (K, K) the mean answer Q_y of each class; zeros where it has no image
    divergence: Floats  # (N,) KL(P_x ‖ Q_y) in nats
    middle: Floats  # (K,) mean of √P_x
    axes: Floats  # (K, 2) the first two principal axes of √P_x
    explained: tuple[float, float]  # share of the variance along each axis
    distinct: bool  # whether the axes are unique, so that every processor finds the same ones


def survey(log_p: Answers, y: Labels) -> Survey:
    """Summarise log-probabilities (N, K), in memory or mapped from a file, one class at a time; y: labels (N,).

    The axes are principal components of √P: the Euclidean distance of two √P is √2 times their Hellinger distance.
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
    """Return the two classes with the most confused mean answers (K, K), and the third class most confused with both.

    Ties go to the first class. Sums are rounded to nine digits, so that every processor finds the same classes.
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
