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
from audit.statistics.verdict import ALPHA, DELTA, Finding, gains, undecided, usable
from reports.record import Word

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


def word(looks: Sequence[Looks], alpha: float = ALPHA) -> Word:
    """Return what the rules say of a complete audit of some attacks, without flags."""
    findings = [_finding(i, of.margins) for i, of in enumerate(looks)]
    if gains(findings, alpha):
        return "DISTILLABLE"
    return "INCONCLUSIVE" if undecided(findings, alpha=alpha) else "UNDISTILLABLE"


def at_once(margins: Sequence[Margin]) -> Word:
    """Return the word of a design whose seeds were fixed before."""
    return word([once(m) for m in margins])


def look_by_look(
    attacks: int,
    margin: Callable[[int, int], Margin],
    first: int,
    most: int = HORIZON,
    stops: Sequence[int] = (),
    alpha: float = ALPHA,
) -> tuple[Word, tuple[int, ...]]:
    """Add seeds to what is open, as audit/trials/judging.py does; return the word, and the seeds that each attack took.

    `margin` gives that of an attack over so many seeds. `stops`: numbers of attacks after which an audit ends where its
    word is sure, as `audit run --stop decided` does; the attacks that have not run take no seeds. `alpha`: the error
    of a word.
    """
    seen: list[list[Margin]] = [[] for _ in range(attacks)]
    numbers = schedule(first, most)
    for end in (*stops, attacks):
        open_ = [i for i in range(end) if not seen[i]]
        while open_:
            for i in open_:
                seen[i].append(margin(i, numbers[len(seen[i])]))
            names = undecided([_finding(i, m) for i, m in enumerate(seen)], alpha=alpha)
            open_ = [i for i in map(int, names) if len(seen[i]) < len(numbers)]
        if gains([_finding(i, m) for i, m in enumerate(seen)], alpha):
            return "DISTILLABLE", tuple(m[-1].seeds if m else 0 for m in seen)
    return word([Looks(tuple(m)) for m in seen], alpha), tuple(m[-1].seeds for m in seen)


def _finding(number: int, margins: Sequence[Margin]) -> Finding:
    """Return what the verdict knows of an attack; of one that has not run, that it is planned."""
    if not margins:
        return Finding(attack=str(number), status="planned", listed=True)
    looks = Looks(tuple(margins))
    return Finding(attack=str(number), status="judged", looks=looks, passes=True, listed=True)
