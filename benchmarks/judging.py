"""What a verdict makes of margins, without its words: shares of simulated audits, and their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from peers import HalfWidth

from audit.compare import Margin
from audit.verdict import DELTA, DISCORDANT

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


def passes(m: Margin, level: float) -> bool:
    """Say whether an attack lets UNDISTILLABLE pass, as audit/verdict.py rules."""
    return usable(m) and m.upper(1 - level) < DELTA and m.lower(1 - level) <= 0


def usable(m: Margin) -> bool:
    """Say whether the verdict may use an interval."""
    return not m.degenerate and m.discordant >= DISCORDANT


def distillable(margins: Sequence[Margin], level: float, half: HalfWidth = half_width) -> bool:
    """Say whether the smallest Holm-adjusted p is below a level: some bound at level / attacks is then above zero."""
    return any(m.mean > half(m, level / len(margins)) for m in margins if usable(m))


def covered(margins: Sequence[Margin], half: HalfWidth = half_width) -> float:
    """Give the share of margins of zero that an interval of 95 % holds."""
    return float(np.mean([abs(m.mean) <= half(m, 0.025) for m in margins]))
