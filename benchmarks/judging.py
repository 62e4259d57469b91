"""What a verdict makes of margins: words and shares of simulated audits, and their errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from peers import HalfWidth

from audit.statistics.compare import Margin
from audit.statistics.sequential import HORIZON, Looks, once, schedule
from audit.statistics.verdict import DELTA, Finding, gains, undecided, usable

LEVELS = (0.05, 0.025)


@dataclass(frozen=True)
class Share:
    """Hold a share of simulated audits, with its Monte-Carlo error."""

    mean: float
    error: float

    @classmethod
    def of(cls, audits: Sequence[float] | NDArray[np.float64]) -> Share:
        """Take the mean over audits, each a count or a share of its own."""
        values = np.asarray(audits, np.float64)
        return cls(float(values.mean()), float(values.std() / math.sqrt(len(values))))

    def __str__(self) -> str:
        return f"{100 * self.mean:5.2f} ± {100 * self.error:4.2f}"


def half_width(m: Margin, tail: float) -> float:
    """Give the half width of the audit's own bound."""
    return m.upper(1 - tail) - m.mean


def passes(m: Margin, level: float, attacks: int) -> bool:
    """Say whether one attack of a suite lets UNDISTILLABLE pass, as audit/statistics/verdict.py rules."""
    return usable(m) and m.upper(1 - level) < DELTA and m.lower(1 - level / attacks) <= 0


def distillable(margins: Sequence[Margin], level: float, half: HalfWidth = half_width) -> bool:
    """Say whether the smallest Holm-adjusted p is below a level: some bound at level / attacks is then above zero."""
    return any(m.mean > half(m, level / len(margins)) for m in margins if usable(m))


def covered(margins: Sequence[Margin], half: HalfWidth = half_width) -> float:
    """Give the share of margins of zero that an interval of 95 % holds."""
    return float(np.mean([abs(m.mean) <= half(m, 0.025) for m in margins]))


def word(looks: Sequence[Looks]) -> str:
    """Return what the rules say of a complete audit of some attacks, without flags."""
    findings = [_finding(i, of) for i, of in enumerate(looks)]
    return "DISTILLABLE" if gains(findings) else "INCONCLUSIVE" if undecided(findings) else "UNDISTILLABLE"


def at_once(margins: Sequence[Margin]) -> str:
    """Return the word of a design whose seeds were fixed before."""
    return word([once(m) for m in margins])


def look_by_look(
    attacks: int, margin: Callable[[int, int], Margin], first: int, most: int = HORIZON
) -> tuple[str, tuple[int, ...]]:
    """Add seeds to what is open, as audit/trials/judging.py does; return the word, and the seeds that each attack took.

    `margin` gives that of an attack over so many seeds.
    """
    seen: list[list[Margin]] = [[] for _ in range(attacks)]
    open_ = list(range(attacks))
    for seeds in schedule(first, most):
        for i in open_:
            seen[i].append(margin(i, seeds))
        open_ = [int(name) for name in undecided([_finding(i, Looks(tuple(m))) for i, m in enumerate(seen)])]
        if not open_:
            break
    return word([Looks(tuple(m)) for m in seen]), tuple(m[-1].seeds for m in seen)


def _finding(number: int, looks: Looks) -> Finding:
    return Finding(attack=str(number), status="judged", looks=looks, passes=True, listed=True)
