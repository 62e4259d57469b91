"""From comparisons, bites and flags to one of three words; pure.

The rules are those of docs/verdict.md. `Finding` is all that the verdict may know of an attack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from audit.compare import Margin, holm
from reports.record import Flag, Word

DELTA = 0.005  # tolerance: half a point
ALPHA = 0.05  # error of either word, over all looks
DISCORDANT = 30  # expected discordant images a seed, below which no interval is trusted

Status = Literal["judged", "identical", "not applicable", "failed"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An attack's outcome on one student architecture."""

    attack: str
    status: Status
    margin: Margin | None = None
    bites: bool = False

    @property
    def usable(self) -> bool:
        """Whether its interval can carry a verdict."""
        return self.margin is not None and not self.margin.degenerate and self.margin.discordant >= DISCORDANT


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """The word and what led to it."""

    word: Word
    reasons: tuple[str, ...]
    settle: str
    p_holm: dict[str, float]


def level_of(look: int) -> float:
    """Return the error that look k = 1, 2… spends: 0.05 / 2^k, so that all looks together stay below 0.05."""
    return float(ALPHA / 2**look)


def rule(
    findings: Sequence[Finding], flags: Sequence[Flag], *, complete: bool, look: int = 1, delta: float = DELTA
) -> Ruling:
    """Apply the rules.

    DISTILLABLE: the smallest Holm-adjusted one-sided p is below the level of this look. UNDISTILLABLE: the whole suite
    was asked for, every applicable attack was judged with a usable interval, at least one of them bites, every upper
    bound is below δ (intersection–union: no correction) and no uncorrected lower bound is above 0. Otherwise
    INCONCLUSIVE. Adding attacks can never turn a verdict into UNDISTILLABLE.
    """
    alpha = level_of(look)
    judged = [f for f in findings if f.status == "judged"]
    p = [f.margin.p_above() if f.usable and f.margin is not None else 1.0 for f in judged]
    adjusted = dict(zip((f.attack for f in judged), holm(p), strict=True))
    capped = [flag for flag in flags if flag.caps == "inconclusive"]
    winners = [f for f in judged if adjusted[f.attack] < alpha]
    if winners and not capped:
        return Ruling(word="DISTILLABLE", reasons=_wins(winners, adjusted), settle="", p_holm=adjusted)
    against = _against(findings, judged, flags, complete=complete, alpha=alpha, delta=delta)
    if not against:
        return Ruling(word="UNDISTILLABLE", reasons=_bounds(judged, alpha, delta), settle="", p_holm=adjusted)
    settle = "; ".join(flag.do for flag in flags if flag.caps != "nothing") or _settle(judged, alpha, delta)
    return Ruling(word="INCONCLUSIVE", reasons=tuple(against), settle=settle, p_holm=adjusted)


def _against(
    findings: Sequence[Finding],
    judged: Sequence[Finding],
    flags: Sequence[Flag],
    *,
    complete: bool,
    alpha: float,
    delta: float,
) -> list[str]:
    """Return everything that stands between these findings and a word."""
    found = [flag.raised for flag in flags if flag.caps != "nothing"]
    if not complete:
        found.append("the suite did not run in full")
    found += [f"{f.attack} failed" for f in findings if f.status == "failed"]
    if not any(f.bites for f in judged):
        found.append("none of the attacks judged here bites on the ordinary teacher")
    for f in judged:
        if f.margin is None or not f.usable:
            images = 0.0 if f.margin is None else f.margin.discordant
            found.append(
                f"{f.attack}: {images:.0f} discordant images expected, fewer than {DISCORDANT}, or no variance"
            )
        elif f.margin.lower(1 - alpha) > 0:
            found.append(f"{f.attack} gains {points(f.margin.mean)}, with a lower bound above 0 on its own")
        elif f.margin.upper(1 - alpha) >= delta:
            found.append(f"{f.attack} may gain up to {points(f.margin.upper(1 - alpha))} (tolerance {points(delta)})")
    return found


def _wins(winners: Sequence[Finding], adjusted: dict[str, float]) -> tuple[str, ...]:
    ordered = sorted(winners, key=lambda f: adjusted[f.attack])
    return tuple(
        f"{f.attack} gains {points(f.margin.mean)} (Holm-adjusted p = {adjusted[f.attack]:.2g})"
        for f in ordered
        if f.margin is not None
    )


def _bounds(judged: Sequence[Finding], alpha: float, delta: float) -> tuple[str, ...]:
    top = max((f.margin.upper(1 - alpha), f.attack) for f in judged if f.margin is not None)
    return (f"the largest upper bound is {points(top[0])} ({top[1]}), below the tolerance of {points(delta)}",)


def _settle(judged: Sequence[Finding], alpha: float, delta: float) -> str:
    """Say how many seeds would settle it, if the widest open interval shrank with their square root."""
    open_ = [f for f in judged if f.usable and f.margin is not None and f.margin.upper(1 - alpha) >= delta]
    if not open_:
        return "run the whole suite, on a test split large enough"
    ratios = []
    for f in open_:
        assert f.margin is not None
        room = abs(f.margin.mean if f.margin.mean > delta else delta - f.margin.mean)
        half = f.margin.upper(1 - alpha) - f.margin.mean
        ratios.append((half / max(room, 1e-4)) ** 2 * f.margin.seeds)
    return f"about {max(3, min(200, round(max(ratios))))} seeds (--seeds), or a larger test split"


def points(fraction: float) -> str:
    """Write a fraction as signed points: 0.013 is +1.3 points."""
    return f"{100 * fraction:+.2f} points"
