"""Confidence bounds and p-values for a difference of accuracies, over training seeds and test images at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.statistics.image_groups import Groups, Units

Correct = NDArray[np.bool_]
Scores = NDArray[np.int8]

_HALVINGS = 100


@dataclass(frozen=True, kw_only=True)
class Margin:
    """Mean over seeds and images, with its bounds and p-values.

    Each score is d[s, i] = mean + seed effect + image effect + interaction; the effects are random and crossed. The
    mean squares of the two-way analysis of variance estimate Var(mean) = A + B, where A = between_seeds / (seeds
    images) has seeds - 1 degrees of freedom and B = (between_images - residual)+ / (seeds images) has images - 1
    (Searle, Casella and McCulloch, Variance Components, 1992, ch. 4; crossed random effects: Clark 1973, Raaijmakers et
    al. 1999). The half width of a bound is sqrt(t_A^2 A + t_B^2 B); each part has the Student quantile of its own
    degrees of freedom. For normal effects on many images the coverage is never below nominal, however the variance
    splits (Banerjee 1960, Sankhya 22:357-358); the single t of Satterthwaite (1946) is too short at three seeds.
    t_A^2 A is never less than the interaction alone would give, so that seeds that agree by luck do not shorten the
    bound. See benchmarks/interval_coverage.py.

    Where images have groups, the image effect and the interaction are those of the groups: with T the sum over group g,
    of n images, of the deviations of its images' means over seeds, and R the same sum of the interaction of one seed,

        between_images = S N (G - 1)/G Σ_g (T / (N - n))²,   residual = N (G - 1)/G Σ_sg (R / (N - n))² / (S - 1),

    the jackknife over groups (image_groups.py). Their degrees of freedom are those of the effective number of groups,
    `independent` - 1. With groups of one image all of these are the mean squares of the two-way analysis. Simulated in
    benchmarks/groups.py.

    Accuracies and margins are fractions; mean squares are per score.
    """

    mean: float
    seeds: int
    images: int
    discordant: float
    """Number of images that contribute to the margin, such as those on which two students differ; mean over seeds."""
    between_seeds: float
    between_images: float
    residual: float
    """Mean square of the interaction, an estimate of the interaction's variance."""
    crossed: float = 0.0
    """Variance of the mean from a third crossed factor, with `crossed_df` degrees of freedom."""
    crossed_df: int = 1
    independent: float | None = None
    """Effective number of groups of images; None where every image is on its own."""
    discordant_groups: float | None = None
    """Number of groups with such an image; None where every image is on its own."""
    least: float = -math.inf
    """The smallest margin that can be: of a knockoff that is always wrong, over a control of this accuracy."""
    most: float = math.inf
    """The largest margin that can be."""

    @property
    def evidence(self) -> float:
        """Number of images, or groups of them, that contribute to the margin; mean over seeds."""
        return self.discordant if self.discordant_groups is None else self.discordant_groups

    @property
    def image_df(self) -> float:
        """Degrees of freedom of the image effect."""
        return (self.images if self.independent is None else self.independent) - 1

    @property
    def seed_variance(self) -> float:
        """Estimate the variance of the seed effect; nan with one seed or one image."""
        return max(self.between_seeds - self.residual, 0.0) / self.images

    @property
    def image_variance(self) -> float:
        """Estimate the variance of the image effect; nan with one seed or one image."""
        return max(self.between_images - self.residual, 0.0) / self.seeds

    @property
    def estimable(self) -> bool:
        """Whether training noise can be estimated: not from one seed, one image or group, or identical seeds."""
        copies = self.between_seeds == 0 and self.residual == 0 and self.between_images > 0
        return self.seeds > 1 and self.image_df >= 1 and not copies

    @property
    def degenerate(self) -> bool:
        """Whether the margin supports no verdict: its variance is zero or cannot be estimated."""
        return not 0 < self.se < math.inf

    @property
    def se(self) -> float:
        """Estimate the standard error of the mean; infinite where it cannot be estimated."""
        if not self.estimable:
            return math.inf
        own = self.seed_variance / self.seeds + self.residual / self._scores
        return math.sqrt(own + self._image_part + self.crossed)

    def over(self, accuracy: float) -> "Margin":
        """Return the same margin over a control of this accuracy: all bounds lie where a margin can be."""
        return replace(self, least=-accuracy, most=1 - accuracy)

    def anywhere(self) -> "Margin":
        """Return the same margin with bounds of any size, as earlier versions had them."""
        return replace(self, least=-math.inf, most=math.inf)

    def foreseen(self, seeds: int) -> "Margin":
        """Predict the margin for `seeds` seeds on the same images, with the same mean and variance components."""
        images = max(self.between_images - self.residual, 0.0) * seeds / self.seeds
        return replace(self, seeds=seeds, between_images=self.residual + images)

    @property
    def df(self) -> float:
        """Satterthwaite's effective degrees of freedom of `se`, for description only: the bounds do not use them."""
        if self.degenerate:
            return 0.0
        B, C = self._image_part, self.crossed
        A = self.se**2 - B - C
        return self.se**4 / (A**2 / (self.seeds - 1) + B**2 / self.image_df + C**2 / self.crossed_df)

    def lower(self, level: float = 0.95) -> float:
        """Bound the margin from below, one-sided."""
        return max(self.least, self.mean - self._half_width(1 - level))

    def upper(self, level: float = 0.95) -> float:
        """Bound the margin from above, one-sided."""
        return min(self.most, self.mean + self._half_width(1 - level))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Bound the margin from both sides at once."""
        half = self._half_width((1 - level) / 2)
        return max(self.least, self.mean - half), min(self.most, self.mean + half)

    def p_above(self, value: float = 0.0) -> float:
        """Return the one-sided p-value of "at most `value`": p < alpha exactly where lower(1 - alpha) > value."""
        if self.degenerate:
            return 1.0
        tail = self._tail(abs(self.mean - value))
        return tail if self.mean > value else 1 - tail

    def p_equal(self) -> float:
        """Return the two-sided p-value of a margin of zero."""
        return 1.0 if self.degenerate else 2 * self._tail(abs(self.mean))

    @property
    def _scores(self) -> int:
        return self.seeds * self.images

    @property
    def _image_part(self) -> float:
        return self.image_variance / self.images

    def _half_width(self, tail: float) -> float:
        """Return the half width of a bound whose one-sided error is `tail`."""
        from scipy.special import stdtrit

        if not 0 < tail < 0.5:
            raise ValueError(f"a one-sided level must lie between 0.5 and 1, not {1 - tail:g}")
        if self.degenerate:
            return 0.0 if self.estimable else math.inf
        t_A = float(stdtrit(self.seeds - 1, tail))
        t_B = float(stdtrit(self.image_df, tail))
        A = max(t_A * t_A * self.between_seeds, t_B * t_B * self.residual) / self._scores
        t_C = float(stdtrit(self.crossed_df, tail))
        return math.sqrt(A + t_B * t_B * self._image_part + t_C * t_C * self.crossed)

    @lru_cache(maxsize=1024)  # noqa: B019 -- flags, looks and pages ask about the same margins
    def _tail(self, half: float) -> float:
        """Invert `_half_width` by bisection; the result is too large by less than 1e-30."""
        low, high = 0.0, 0.5
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if not low < middle < high:
                break
            low, high = (low, middle) if self._half_width(middle) < half else (middle, high)
        return high


def paired(knockoff: Correct, control: Correct, groups: Groups | None = None) -> Margin:
    """Compare two students, paired by seed and test image; arrays (S, N) say which answers are correct.

    `groups`: (N,) the number of each image's group, where images resemble each other.

    One student may have more seeds than the other: the first rows of both are the same seeds, the further rows are
    unpaired. `discordant` counts the images on which the two students differ, over the paired seeds.
    """
    _check(knockoff)
    _check(control)
    margin = _paired(knockoff.astype(np.int8), control.astype(np.int8), Units(knockoff.shape[1], groups))
    return margin.over(float(control.mean()))


def differing(one: tuple[Correct, Correct], other: tuple[Correct, Correct], groups: Groups | None = None) -> Margin:
    """Return the difference of two margins: one knockoff over its control (S, N), minus another over its own (M, N).

    Every score is a difference of two differences, paired by seed and test image, so that controls that are the same
    students cancel out; independent seeds may be paired in any order. The two margins may have different numbers of
    seeds, as in `paired`, but a knockoff has as many seeds as its control. `discordant` counts the images on which the
    two differences differ.
    """
    for knockoff, control in (one, other):
        _check(knockoff)
        _check(control)
        if knockoff.shape != control.shape or knockoff.shape[1] != one[0].shape[1]:
            raise ValueError(
                f"knockoff {knockoff.shape} and control {control.shape} must hold the same seeds and images"
            )
    first, second = (knockoff.astype(np.int8) - control.astype(np.int8) for knockoff, control in (one, other))
    return _paired(first, second, Units(first.shape[1], groups))


def _paired(knockoff: Scores, control: Scores, units: Units) -> Margin:
    """Compare integer scores (S, N) with other integer scores (M, N)."""
    if knockoff.shape[1] != control.shape[1]:
        raise ValueError(f"knockoff {knockoff.shape} and control {control.shape} must hold the same images")
    if len(knockoff) > len(control):
        swapped = _paired(control, knockoff, units)
        return replace(swapped, mean=-swapped.mean)
    d = knockoff - control[: len(knockoff)]  # (S, N)
    discordant = int(np.count_nonzero(d)) / len(d)
    if len(knockoff) == len(control):
        return _counted(_margin(d, 0.0, discordant, units), units, d)
    return _counted(_partly_paired(knockoff, control, discordant, units), units, d)


def _partly_paired(knockoff: Scores, control: Scores, discordant: float, units: Units) -> Margin:
    """Compare a student (S, N) with one that has more seeds (M, N); the first S seeds are paired.

    mean(knockoff) - mean(control) is the mean of the S differences knockoff - S/M control, minus the part of the
    control's other seeds. Seeds are independent, so the variances of the two parts add up. The second variance is
    (M - S)/M^2 times that of one control seed; it has M - 1 degrees of freedom, because all M seeds estimate it.
    """
    (S, N), M = knockoff.shape, len(control)
    pairs = _margin(M * knockoff.astype(np.int32) - S * control[:S].astype(np.int32), 0.0, discordant, units, scale=M)
    alone = _margin(control, 0.0, 0.0, units)
    columns = M * knockoff.sum(axis=0, dtype=np.int64) - S * control.sum(axis=0, dtype=np.int64)  # (N,)
    G, other = int(columns.sum()), (M - S) / M**2
    of_all = {square.size: square.images for square in units.squares(columns[None])}
    images = units.mean_square(of_all, N * (S * M) ** 2)
    return replace(
        pairs,
        mean=G / (N * S * M),
        between_images=S * (images - other * alone.residual),
        # This part, too, is never less than the interaction alone would give.
        crossed=other * max(alone.between_seeds, alone.residual) / N,
        crossed_df=M - 1,
    )


def over_teachers(knockoff: Correct, control: Correct, groups: Groups | None = None) -> Margin:
    """Compare the students of several teachers (T, S, N) with controls (S, N) or (T, S, N), paired by seed and image.

    Use it for a claim about how the teachers were trained: teachers, student seeds and images are all random and
    crossed. The margin's `seeds` are the teachers, each averaged over its students; the effect that a student seed has
    under every teacher is the third factor (`crossed`).
    """
    fits = control.shape in (knockoff.shape, knockoff.shape[1:])
    if knockoff.ndim != 3 or not fits or min(knockoff.shape[:2]) < 2:
        raise ValueError(
            f"knockoff {knockoff.shape} must hold at least two teachers' students, as many as control {control.shape}"
        )
    T, S, _ = knockoff.shape
    d = knockoff.astype(np.int8) - control.astype(np.int8)  # (T, S, N)
    means = d.mean(axis=2)  # (T, S)
    own, shared = means.mean(axis=1, keepdims=True), means.mean(axis=0, keepdims=True)
    left = means - own - shared + means.mean()
    students = T * float(((shared - means.mean()) ** 2).sum()) / (S - 1)
    interaction = float((left**2).sum()) / ((T - 1) * (S - 1))
    units = Units(d.shape[2], groups)
    margin = _margin(d.sum(axis=1), 0.0, int(np.count_nonzero(d)) / (T * S), units, scale=S)
    margin = _counted(margin, units, d.reshape(T * S, -1)).over(float(control.mean()))
    return replace(margin, crossed=max(students - interaction, 0.0) / (T * S), crossed_df=S - 1)


def above(accuracy: Correct, value: float, groups: Groups | None = None) -> Margin:
    """Compare one student with a constant accuracy; the array (S, N) says which answers are correct.

    `discordant` counts the correct or the wrong answers of a seed, whichever are fewer.
    """
    _check(accuracy)
    units = Units(accuracy.shape[1], groups)
    right = int(np.count_nonzero(accuracy))
    margin = _margin(accuracy.astype(np.int8), value, min(right, accuracy.size - right) / len(accuracy), units)
    return _counted(margin, units, accuracy, ~accuracy).over(value)


def scatter(correct: Correct) -> float:
    """Return the standard deviation over seeds of a student's error rate, divided by its mean; `correct`: (S, N)."""
    errors = 1 - correct.mean(axis=1)
    return float(errors.std(ddof=1) / errors.mean()) if len(errors) > 1 and errors.any() else 0.0


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple comparisons, in the order given (Holm 1979)."""
    adjusted = [0.0] * len(p)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


class LowerBound(NamedTuple):
    """A mean and its one-sided 95 % lower bound."""

    mean: float
    lower: float


def over_images(scores: NDArray[np.integer[Any]], groups: Groups | None = None) -> LowerBound:
    """Bound the mean of scores (S, N) over images alone: for these students, not for students of other seeds."""
    from scipy.special import stdtrit

    S, N = scores.shape
    units = Units(N, groups)
    columns = scores.sum(axis=0, dtype=np.int64)  # (N,)
    variance = units.mean_square({s.size: s.images for s in units.squares(columns[None])}, (S * N) ** 2)
    mean = float(columns.mean()) / S
    return LowerBound(mean, mean + float(stdtrit(units.independent - 1, 0.05)) * math.sqrt(variance))


def more_steps(scores: NDArray[np.integer[Any]], judged: Sequence[Margin]) -> LowerBound:
    """Bound what more steps add, from differences (S, N) of few seeds between many steps and the usual ones.

    `judged`: comparisons of more seeds at the usual steps. Two lengths of one seed are at most as different as two
    seeds, so twice the seed part of such a margin is pooled with the scatter of the S seeds. Where there are none,
    the bound is over the images alone.
    """
    from scipy.special import stdtrit

    mean, lower = over_images(scores)
    parts = [(m.seeds - 1, 2 * m.between_seeds / m.images) for m in judged if m.seeds > 1]
    if not parts:
        return LowerBound(mean, lower)
    if len(scores) > 1:
        parts.append((len(scores) - 1, float(scores.mean(axis=1).var(ddof=1))))
    df = sum(own for own, _ in parts)
    seeds = sum(own * variance for own, variance in parts) / df / len(scores)
    return LowerBound(mean, mean - math.sqrt((mean - lower) ** 2 + float(stdtrit(df, 0.05)) ** 2 * seeds))


def _check(correct: NDArray[Any]) -> None:
    if correct.dtype != np.bool_ or correct.ndim != 2 or correct.size == 0:
        raise ValueError(f"expected booleans (seeds, images), got {correct.dtype} {correct.shape}")


def _counted(margin: Margin, units: Units, *scores: NDArray[np.integer[Any] | np.bool_]) -> Margin:
    """Fill in the groups that contribute to a margin; the fewest of some scores (S, N)."""
    return margin if units.single else replace(margin, discordant_groups=min(map(units.discordant, scores)))


def _margin(d: NDArray[np.integer[Any]], value: float, discordant: float, units: Units, scale: int = 1) -> Margin:
    """Analyse the variance of integer scores, which are `scale` times the real ones, to avoid rounding errors."""
    S, N = d.shape
    rows = d.sum(axis=1, dtype=np.int64)  # (S,)
    G = int(rows.sum())
    seeds = S * int(rows @ rows) - G * G  # sum of squares, times S N
    squares, scores = list(units.squares(d)), S * N * scale**2
    return Margin(
        mean=G / (S * N * scale) - value,
        seeds=S,
        images=N,
        discordant=discordant,
        between_seeds=seeds / (scores * (S - 1)) if S > 1 else math.nan,
        between_images=units.mean_square({s.size: s.images for s in squares}, scores),
        residual=units.mean_square({s.size: s.residual for s in squares}, scores * (S - 1)) if S > 1 else math.nan,
        independent=None if units.single else units.independent,
    )
