"""Groups of test images that share what a margin depends on, such as the frames of a film or the scans of a patient.

A group, not an image, is then what was drawn independently: it is the unit of the image effect and of the interaction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Groups = NDArray[np.integer[Any]]  # (N,), the number of each test image's group
Integers = NDArray[np.int64]


class Squares(NamedTuple):
    """Sums of squares of a two-way table's group sums, of groups of one size: all times (S N)²."""

    size: int
    images: int  # of the groups' deviations, summed over seeds
    residual: int  # of the interaction, times S


@dataclass(frozen=True)
class Units:
    """The test images by group; without groups, every image is a group of its own."""

    images: int
    groups: Groups | None = None

    def __post_init__(self) -> None:
        if self.groups is not None and (self.groups.shape != (self.images,) or self.groups.dtype.kind not in "iu"):
            raise ValueError(f"expected {self.images} group numbers, got {self.groups.dtype} {self.groups.shape}")

    @cached_property
    def sizes(self) -> Integers:
        """Number of images of each group, (G,)."""
        if self.groups is None:
            return np.ones(self.images, np.int64)
        return np.unique(self.groups, return_counts=True)[1].astype(np.int64)

    @property
    def single(self) -> bool:
        """Whether no group has two images."""
        return len(self.sizes) == self.images

    @property
    def independent(self) -> float:
        """Effective number of groups, (Σ n²)² / Σ n⁴: all of them if their sizes n are equal, fewer otherwise.

        One less is what Satterthwaite (1946) gives as the degrees of freedom of a variance that adds up squares of
        effects shared within groups, and the effective number of clusters of Carter, Schnepel and Steigerwald (2017,
        Review of Economics and Statistics 99:698) at its least, where all images of a group share one effect.
        """
        squares = [n * n for n in map(int, self.sizes)]
        return sum(squares) ** 2 / sum(n * n for n in squares)

    def sums(self, scores: NDArray[np.integer[Any]]) -> Integers:
        """Add up scores (S, N) within each group, (S, G)."""
        if self.single:
            return scores.astype(np.int64)
        starts = np.cumsum(self.sizes) - self.sizes
        return np.add.reduceat(scores[:, self._order].astype(np.int64), starts, axis=1)

    @cached_property
    def _order(self) -> Integers:
        assert self.groups is not None
        return np.argsort(self.groups, kind="stable")

    def discordant(self, scores: NDArray[np.integer[Any] | np.bool_]) -> float:
        """Count the groups with a score (S, N) that is not zero, mean over seeds."""
        return int(np.count_nonzero(self.sums(scores != 0))) / len(scores)

    def squares(self, scores: NDArray[np.integer[Any]]) -> Iterator[Squares]:
        """Yield the sums of squares of scores (S, N), by size of group; whole numbers, so that nothing is rounded.

        With D the sum of a seed's scores within a group of n images, r of its row, C and G the same over all S seeds:
        F = N C - n G is the group's deviation and E = N D - n r that of one seed, and the interaction is S E - F.
        """
        S, N = scores.shape
        D = self.sums(scores)  # (S, G)
        rows = D.sum(axis=1)  # (S,)
        total, rows_squared = int(rows.sum()), int(rows @ rows)
        different = [int(n) for n in np.unique(self.sizes)]
        for size in different:
            d = D if len(different) == 1 else D[:, self.sizes == size]
            columns, k = d.sum(axis=0), d.shape[1]
            F = N * N * int(columns @ columns) - 2 * N * size * total * int(columns.sum()) + k * (size * total) ** 2
            crossed = int(rows @ d.sum(axis=1))
            E = N * N * int((d**2).sum()) - 2 * N * size * crossed + k * size**2 * rows_squared
            yield Squares(size, F, S * E - F)

    def mean_square(self, squares: dict[int, int], scores: int) -> float:
        """Return the mean square, per score, of squared group sums by size; `scores`: what their scale amounts to.

        The variance of a mean over groups of unequal sizes n is that of the jackknife which leaves out one group at a
        time, (G - 1)/G Σ (T/(N - n))², where T is the sum of a group's deviations: never too small on average (Efron
        and Stein 1981, Annals of Statistics 9:586), and the usual mean square where all groups have one size.
        """
        G = len(self.sizes)
        if G < 2:
            return math.nan
        return math.fsum(
            (G - 1) * square / (G * scores * (self.images - size) ** 2) for size, square in squares.items()
        )


def design_effect(groups: Groups, correct: NDArray[np.bool_]) -> float:
    """Return the design effect of a share of correct answers (N,): its variance over that without groups, at least 1.

    Kish 1965, Survey Sampling, §8.2.
    """
    scores = correct[None].astype(np.int64)
    by_group, alone = (
        (1 - 1 / len(units.sizes)) * units.mean_square({s.size: s.images for s in units.squares(scores)}, len(correct))
        for units in (Units(len(correct), groups), Units(len(correct)))
    )
    return max(1.0, by_group / alone) if alone > 0 and not math.isnan(by_group) else 1.0


class Resemblance(NamedTuple):
    """How much alike values are within groups."""

    correlation: float  # intra-class correlation
    effect: float  # design effect: the variance of the mean over that of independent values
    p: float  # of "not at all"


def resemblance(values: NDArray[np.float64], groups: Groups, labels: NDArray[np.integer[Any]]) -> Resemblance | None:
    """Compare values (N,) within groups by the one-way analysis of variance; None where groups or values say nothing.

    Values are first taken from the mean of their class (`labels`): classes differ in any test split, and a balanced one
    holds as many images of each by design. Correlation and design effect: Kish 1965, Survey Sampling, §5.4; unequal
    sizes: Donner 1986, International Statistical Review 54:67.
    """
    from scipy.special import fdtrc

    _, label, classes = np.unique(labels, return_inverse=True, return_counts=True)
    y = values - (np.bincount(label, values) / classes)[label]
    _, group, n = np.unique(groups, return_inverse=True, return_counts=True)
    N, G = len(y), len(n)
    nested = len(np.unique(group * len(classes) + label)) == G
    between_df, within_df = G - (len(classes) if nested else 1), N - G - (0 if nested else len(classes) - 1)
    if between_df < 1 or within_df < 1:
        return None
    between = float((np.bincount(group, y) ** 2 / n).sum())
    within = float((y**2).sum()) - between
    if within <= 1e-12 * N:
        return Resemblance(1.0, float((n**2).sum()) / N, 0.0) if between > 1e-12 * N else None
    b, w = between / between_df, within / within_df
    typical = (N - float((n**2).sum()) / N) / (G - 1)
    correlation = (b - w) / (b + (typical - 1) * w)
    effect = 1 + (float((n**2).sum()) / N - 1) * correlation
    return Resemblance(correlation, max(effect, 0.0), float(fdtrc(between_df, within_df, b / w)))
