"""From comparisons, positive controls and flags to one of three verdict words. Pure functions.

docs/verdict.md states the rules. `Finding` is all that the verdict knows about an attack.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from audit.statistics.compare import Margin, holm
from audit.statistics.sequential import HORIZON, Looks
from reports.record import DISCORDANT, Flag, Over, Word
from reports.settings import ALPHA as ALPHA
from teachers.units import points

DELTA = 0.005  # tolerance δ: half a percentage point

Status = Literal["judged", "identical", "not applicable", "failed", "planned"]


COUNTED: tuple[Status, ...] = ("judged", "planned")  # the tests of an audit: an attack that has not run has p = 1


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An attack's outcome on one student architecture."""

    attack: str  # name; with the student's architecture where there are several
    status: Status
    looks: Looks | None = None  # over its control: the better on validation of LS student and own loss
    rivals: Mapping[Over, Looks] = field(default_factory=dict)  # over each kind of control, where there are several
    passes: bool = False  # its positive control
    same: bool = False  # its students are its control's: it learns from the labels alone, and gains nothing
    listed: bool = False  # whether the suite names it: such attacks are there whatever a user adds
    mis_tuned: bool = False  # surely worse than its own control on validation images

    @property
    def margin(self) -> Margin | None:
        """The attack's margin over all seeds so far."""
        return None if self.looks is None else self.looks.last

    @property
    def evidence(self) -> bool:
        """Whether the attack can show that a teacher withstands it."""
        return self.passes and not self.mis_tuned

    @property
    def usable(self) -> bool:
        """Whether the attack's interval can support a verdict."""
        return self.margin is not None and usable(self.margin)

    @property
    def gained(self) -> tuple[Looks, ...]:
        """The comparisons that must all show a gain before the teacher is DISTILLABLE: over every kind of control."""
        others = tuple(looks for looks in self.rivals.values() if looks is not self.looks)
        return others if self.looks is None else (self.looks, *others)

    @property
    def bounded(self) -> Looks | None:
        """The comparison whose upper bound must be below δ before the teacher is UNDISTILLABLE.

        It is over the better of the LS student and the own loss, not over each: what a loss gains over the LS student
        without a teacher is no gain from one. Whichever of the two validation prefers, it is chosen before the test
        images are seen, so that a gain of δ or more over both passes with the error of one bound.
        """
        return self.looks

    def p_gain(self) -> float:
        """Return the p-value of "some control gains as much": the largest of all (intersection–union test)."""
        return max((looks.p_above() if usable(looks.last) else 1.0 for looks in self.gained), default=1.0)

    def least(self, alpha: float) -> float:
        """Bound the gain over the strongest control from below, one-sided."""
        return min((looks.lower(alpha) if usable(looks.last) else -1.0 for looks in self.gained), default=-1.0)

    def matched(self, alpha: float) -> list[Over]:
        """Name the controls that may gain as much, the one with the smallest margin first."""
        left = [over for over, looks in self.rivals.items() if not usable(looks.last) or looks.lower(alpha) <= 0]
        return sorted(left, key=lambda over: self.rivals[over].last.mean)


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """The verdict word and the reasons for it."""

    word: Word
    reasons: tuple[str, ...]
    settle: str
    p_holm: dict[str, float]


def rule(
    findings: Sequence[Finding],
    flags: Sequence[Flag],
    *,
    complete: bool,
    delta: float = DELTA,
    alpha: float = ALPHA,
) -> Ruling:
    """Apply the rules.

    DISTILLABLE: the smallest Holm-adjusted one-sided p-value of a gain over every kind of control is below 0.05.
    UNDISTILLABLE: the whole suite was requested, every applicable attack was judged with a usable interval, at least
    one attack passes its positive control and is not mis-tuned, every upper bound is below δ (intersection–union test:
    no correction needed; an attack that is best at the labels alone is its own control, with the bound 0) and no lower
    bound, corrected for the number of the suite's attacks, is above 0. Otherwise INCONCLUSIVE. A flag can forbid
    UNDISTILLABLE, or both words. All p-values and bounds hold over all looks.

    Planned attacks, which have not run yet, have p = 1 and forbid UNDISTILLABLE. No p-value grows with more looks, and
    no attack is added: where DISTILLABLE is said early, the whole table would say it, too, so that it costs no error.

    Adding attacks to a suite can never turn a verdict into UNDISTILLABLE. An added attack has bounds of its own, which
    leave the others' upper bounds as they are. It also makes Holm's correction stricter, so that DISTILLABLE may no
    longer hold; but what was DISTILLABLE has a p-value below α / (number of attacks), hence below α / (number of the
    suite's attacks), which no added attack changes: the lower bound with this correction stays above 0. Neither can
    calling an attack mis-tuned: its own bounds must hold all the same.

    `alpha`: the error rate of each word, 0.05 unless a word is one of several that are said together.
    """
    judged, adjusted = _of("judged", findings), adjust(findings)
    capped = [flag for flag in flags if flag.caps == "inconclusive"]
    winners = [f for f in judged if adjusted[f.attack] < alpha]
    if winners and not capped:
        reasons = _wins(winners, adjusted, alpha / planned(findings))
        return Ruling(word="DISTILLABLE", reasons=reasons, settle="", p_holm=adjusted)
    against = _against(findings, judged, flags, complete=complete, delta=delta, alpha=alpha)
    if not against:
        return Ruling(word="UNDISTILLABLE", reasons=bounds(judged, delta, alpha), settle="", p_holm=adjusted)
    settle = "; ".join(flag.do for flag in flags if flag.caps != "nothing") or _settle(findings, delta, alpha)
    return Ruling(word="INCONCLUSIVE", reasons=tuple(against), settle=settle, p_holm=adjusted)


def usable(margin: Margin) -> bool:
    """Whether an interval can support a verdict: it has a variance and enough discordant images or groups."""
    return not margin.degenerate and margin.evidence >= DISCORDANT


def undecided(findings: Sequence[Finding], delta: float = DELTA, alpha: float = ALPHA) -> list[str]:
    """Name the attacks for which more seeds may change the verdict; none as soon as one attack has a certain gain."""
    if gains(findings, alpha):
        return []
    judged, level = _of("judged", findings), spared(findings, alpha)
    return [f.attack for f in judged if _open(f, delta, level, alpha) is not None and not explained(f, alpha)]


def explained(f: Finding, alpha: float = ALPHA) -> bool:
    """Whether an attack surely gains over its control, and surely not over another: it can decide neither word."""
    sure = f.usable and f.looks is not None and f.looks.lower(alpha) > 0
    return sure and any(usable(looks.last) and looks.upper(alpha) <= 0 for looks in f.rivals.values())


def planned(findings: Sequence[Finding]) -> int:
    """Count the attacks over which the verdict is corrected: those that were judged, and those that have not run."""
    return sum(f.status in COUNTED for f in findings)


def gains(findings: Sequence[Finding], alpha: float = ALPHA) -> bool:
    """Whether any corrected lower bound exceeds zero; equivalent to min Holm p < alpha."""
    return any(f.usable and f.least(alpha / planned(findings)) > 0 for f in _of("judged", findings))


def spared(findings: Sequence[Finding], alpha: float = ALPHA) -> float:
    """Return the error of each lower bound that stands in the way of UNDISTILLABLE: α, shared by the suite's attacks.

    Without the correction, one of 25 attacks that gain nothing would nearly always be in the way, whatever δ.
    """
    return alpha / max(1, sum(f.listed for f in findings if f.status in COUNTED))


def adjust(findings: Sequence[Finding]) -> dict[str, float]:
    """Return each judged attack's one-sided p-value of a gain, with Holm's correction over all that are planned."""
    counted = [f for f in findings if f.status in COUNTED]
    p = holm([f.p_gain() if f.usable else 1.0 for f in counted])
    return {f.attack: value for f, value in zip(counted, p, strict=True) if f.status == "judged"}


def _of(status: Status, findings: Sequence[Finding]) -> list[Finding]:
    return [f for f in findings if f.status == status]


def _against(
    findings: Sequence[Finding],
    judged: Sequence[Finding],
    flags: Sequence[Flag],
    *,
    complete: bool,
    delta: float,
    alpha: float,
) -> list[str]:
    """Return every reason why these findings do not allow UNDISTILLABLE."""
    found = [flag.found for flag in flags if flag.caps != "nothing"]
    if not complete:
        found.append("not every attack of the suite was requested")
    found += [f"{f.attack} failed" for f in findings if f.status == "failed"]
    if not any(f.passes for f in judged):
        found.append("none of the judged attacks passes the positive control")
    elif not any(f.evidence for f in judged):
        found.append("every judged attack that passes the positive control is mis-tuned")
    if waiting := len(_of("planned", findings)):
        found.append(f"{waiting} of {len(findings)} attacks have not run yet")
    level = spared(findings, alpha)
    return found + [reason for f in judged if (reason := _open(f, delta, level, alpha)) is not None]


def _open(f: Finding, delta: float, level: float, alpha: float) -> str | None:
    """Return why an attack is undecided; None where its upper bound is below δ and its lower bound is not above 0.

    `level`: the lower bound's error; `alpha`: the upper one's.
    """
    bounded = f.bounded
    if f.same:
        return None
    if f.looks is None or bounded is None or not f.usable:
        images = 0.0 if f.margin is None else f.margin.evidence
        what = "images" if f.margin is None or f.margin.independent is None else "groups of images"
        return f"{f.attack}: too few discordant {what} ({images:.0f} expected, {DISCORDANT} needed), or no variance"
    if f.looks.lower(level) > 0:
        gain = f"{f.attack} gains {points(f.looks.last.mean)} points"
        for error in (alpha, level):
            if matched := f.matched(error):
                return f"{gain}, {_as_well(f, matched[0], error, corrected=error < alpha)}"
        if level == alpha:
            return f"{gain}; before correction for the number of attacks, its lower bound is above 0"
        return f"{gain}; its lower bound, corrected for the number of the suite's attacks, is above 0"
    if (upper := bounded.upper(alpha)) >= delta:
        return f"{f.attack} may gain up to {points(upper)} points (tolerance {points(delta)} points)"
    return None


AS_WELL: Mapping[Over, str] = {
    "ls": "but the LS student may be as good",
    "own loss": "but its loss may gain as much without a teacher",
    "twin": "but the same attack may gain as much on a twin, a teacher that attackers train on their own data",
}


def _as_well(f: Finding, over: Over, alpha: float, *, corrected: bool) -> str:
    """Say which control gains as much as an attack does, by a bound with this error."""
    looks = f.rivals[over]
    left = f"{points(looks.last.mean)} points are left over it, at least {points(looks.lower(alpha))}"
    if corrected:
        left += " after correction for the number of attacks"
    return f"{AS_WELL[over]}: {left}, so that it is not sure that the gain comes from the teacher"


def _wins(winners: Sequence[Finding], adjusted: dict[str, float], level: float) -> tuple[str, ...]:
    ordered = sorted(winners, key=lambda f: adjusted[f.attack])
    return tuple(
        f"{f.attack} gains {points(f.looks.last.mean)} points, at least {points(f.least(level))} points "
        f"{'over every control ' if f.rivals else ''}after correction (Holm-adjusted p = {adjusted[f.attack]:.2g})"
        for f in ordered
        if f.looks is not None
    )


def bounds(judged: Sequence[Finding], delta: float, alpha: float) -> tuple[str, ...]:
    """Say that every gain is below the tolerance, and by how much."""
    same = [f.attack for f in judged if f.same]
    nothing = f"best at the labels alone, and so without any gain: {', '.join(same)}"
    if len(same) == len(judged):
        return (nothing,)
    top = max((f.bounded.upper(alpha), f.attack) for f in judged if f.bounded is not None and not f.same)
    bound = f"the largest upper bound is {points(top[0])} points ({top[1]})"
    return (f"{bound}, below the tolerance of {points(delta)} points", *([nothing] if same else []))


def _settle(findings: Sequence[Finding], delta: float, alpha: float) -> str:
    """Say how many seeds, or else test images, would decide every open attack if its margin stayed the same."""
    seeds, images, as_much, level = 0, 0, False, spared(findings, alpha)
    for f in _of("judged", findings):
        margin = f.margin
        if margin is None or not f.usable or _open(f, delta, level, alpha) is None:
            continue
        if f.looks is not None and f.looks.lower(alpha) > 0 and (matched := f.matched(alpha)):
            margin = f.rivals[matched[0]].last
            if margin.mean <= delta / 2:  # more seeds would only show that the control gains as much
                as_much = True
                continue
        needed = enough(margin, delta)
        seeds, images = max(seeds, needed.seeds), max(images, needed.images)
    if _of("planned", findings):
        return "the same command again: it goes on with the attacks that have not run"
    if images:
        return f"about {images:,} test images: with the present ones, no number of seeds is enough"
    if as_much and not seeds:
        return "an attack that gains more from the teacher than from a control: more seeds do not show it"
    return f"about {seeds} seeds (--seeds)" if seeds else "run the whole suite (--attacks all), with enough test images"


class Enough(NamedTuple):
    """Number of seeds that decides a comparison or, where no number of seeds does, number of test images."""

    seeds: int
    images: int = 0


def enough(margin: Margin, delta: float = DELTA) -> Enough:
    """Return how many seeds or images would decide a comparison whose mean and variance components stay the same.

    A margin is decided when its one-sided 97.5 % bound (the looks use some of the 5 %) excludes 0 for a margin nearer
    to δ, and excludes δ for a margin nearer to 0.
    """
    room = max(margin.mean if margin.mean > delta / 2 else delta - margin.mean, 1e-4)
    for seeds in range(margin.seeds + 1, HORIZON + 1):
        if margin.foreseen(seeds).upper(1 - ALPHA / 2) - margin.mean < room:
            return Enough(seeds)
    half = margin.foreseen(HORIZON).upper(1 - ALPHA / 2) - margin.mean
    return Enough(HORIZON, math.ceil(margin.images * max(1.0, half / room) ** 2))
