"""Group-sequential testing: seeds are added while a comparison is undecided, and each look spends some of the error.

A margin over S seeds and N images has the variance a/S + b/N: more seeds reduce the first part only. The covariance of
two means over nested sets of seeds is the variance of the larger set, so the looks behave like a Brownian motion at
times t = Var(horizon) / Var(S): the share of the horizon's information that a look has. Look k may spend
f(t_k) − f(t_(k−1)) with the spending function of Pocock's type, f(t) = α ln(1 + (e − 1) t) (Lan and DeMets 1983,
Biometrika 70:659); its level follows by the recursive integration of Armitage, McPherson and Rowe (1969, J. R. Stat.
Soc. A 132:235). The variance is estimated, so each look is judged at its level by its own Student quantiles (Jennison
and Turnbull 2000, Group Sequential Methods, §11.4); benchmarks/sequential.py measures the error rates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from audit.statistics.compare import Correct, Margin, paired
from audit.statistics.image_groups import Groups

HORIZON = 20  # number of seeds at which all of the error is spent
GROWTH = 1.6  # factor from the seeds of one look to those of the next
LEAST = 0.01  # a look with less new information than this spends nothing

_NODES = 96
_FAR = 9.0  # standard deviations
_HALVINGS = 50


@dataclass(frozen=True)
class Looks:
    """One comparison at every look; each look has more seeds than the one before.

    All bounds and p-values stay valid whichever look was the last, and for whatever reason the audit stopped there.
    """

    margins: tuple[Margin, ...]
    horizon: int = HORIZON

    @property
    def last(self) -> Margin:
        """Return the margin over all seeds so far."""
        return self.margins[-1]

    @cached_property
    def times(self) -> tuple[float, ...]:
        """Return the information at each look, as a fraction of the horizon's; it never decreases."""
        return tuple(np.maximum.accumulate([information(m, self.horizon) for m in self.margins]).tolist())

    def levels(self, alpha: float) -> tuple[float, ...]:
        """Return the one-sided level of each look; together they spend no more than `alpha`."""
        return levels(self.times, alpha)

    def lower(self, alpha: float) -> float:
        """Bound the margin from below, one-sided: the tightest bound of any look."""
        return max(-math.inf if a == 0 else m.lower(1 - a) for m, a in self._judged(alpha))

    def upper(self, alpha: float) -> float:
        """Bound the margin from above, one-sided: the tightest bound of any look."""
        return min(math.inf if a == 0 else m.upper(1 - a) for m, a in self._judged(alpha))

    def p_above(self, value: float = 0.0) -> float:
        """Return the smallest alpha at which some look so far concludes that the margin is above `value`."""
        p = [m.p_above(value) for m in self.margins]
        if len(p) == 1:
            return min(1.0, p[0] / spent(self.times[0], 1.0))

        def says(alpha: float) -> bool:
            return any(ours < level for ours, level in zip(p, self.levels(alpha), strict=True))

        if not says(0.5):
            return 1.0
        low, high = math.log(1e-12), math.log(0.5)
        if says(math.exp(low)):
            return math.exp(low)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if says(math.exp(middle)) else (middle, high)
        return math.exp(high)

    def _judged(self, alpha: float) -> Iterator[tuple[Margin, float]]:
        return zip(self.margins, self.levels(alpha), strict=True)


def looks(
    knockoff: Correct, control: Correct, seeds: Sequence[int], horizon: int = HORIZON, groups: Groups | None = None
) -> Looks:
    """Compare two students (S, N) at each number of seeds in `seeds`, always on their first seeds.

    `groups`: (N,) of the images.
    """
    return Looks(tuple(paired(knockoff[:s], control[:s], groups) for s in seeds), horizon)


def once(margin: Margin) -> Looks:
    """Return a single look that spends all of the error: a design whose number of seeds was fixed in advance."""
    return Looks((margin,), margin.seeds)


def schedule(first: int, most: int, seen: Sequence[int] = ()) -> tuple[int, ...]:
    """Return the numbers of seeds at which to look, from `first` to `most`, and those of earlier looks (`seen`)."""
    numbers = {min(first, most), most, *(s for s in seen if s < most)}
    seeds = first
    while (seeds := math.ceil(GROWTH * seeds)) < most:
        numbers.add(seeds)
    return tuple(sorted(numbers))


def information(margin: Margin, horizon: int) -> float:
    """Return a margin's information as a fraction of the horizon's, from its own variance components."""
    if margin.seeds >= horizon:
        return 1.0
    if margin.degenerate:
        return margin.seeds / horizon
    return margin.foreseen(horizon).se ** 2 / margin.se**2


def spent(time: float, alpha: float) -> float:
    """Return the error that may be spent up to a time in [0, 1] (Lan and DeMets 1983, Pocock's type)."""
    return alpha * math.log1p((math.e - 1) * time)


@lru_cache(maxsize=4096)
def levels(times: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """Return the nominal one-sided level of each look at non-decreasing times in (0, 1].

    A look that adds less than `LEAST` of information has level 0 and leaves its share of the error to the next look.
    Quadrature carries the part of the distribution that earlier looks did not reject to the next look.
    """
    from scipy.special import ndtr

    found: list[float] = []
    before = 0.0
    z = np.zeros(1)  # nodes: values of the last look's statistic below its bound
    mass = np.ones(1)  # density at the nodes times the quadrature weights
    for time in times:
        if time - before < LEAST:
            found.append(0.0)
            continue
        own = spent(time, alpha) - spent(before, alpha)
        kept, new = math.sqrt(before / time), math.sqrt(1 - before / time)
        centre = kept * z
        low, high = -_FAR, _FAR  # bisection: the tail above the bound is the error that this look may spend
        for _ in range(_HALVINGS):
            bound = (low + high) / 2
            tail = float(mass @ ndtr((centre - bound) / new))
            low, high = (bound, high) if tail > own else (low, bound)
        found.append(float(ndtr(-high)))
        nodes, weights = _below(high)
        density = np.exp(-(((nodes[:, None] - centre) / new) ** 2) / 2) / (new * math.sqrt(2 * math.pi))  # (n, m)
        z, mass, before = nodes, weights * (density @ mass), time
    return tuple(found)


def _below(bound: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Gauss–Legendre nodes and weights for the range below a bound."""
    nodes, weights = _legendre()
    half = (bound + _FAR) / 2
    return half * (nodes + 1) - _FAR, half * weights


@lru_cache(maxsize=1)
def _legendre() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights
