"""Compare the margins of two records: does a teacher give away more than an earlier one? Pure functions."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace

from audit.analysis.derive import RecordResults, results
from audit.finished.side_by_side import question, versions
from audit.statistics.compare import Correct, differing, holm
from audit.statistics.sequential import Looks
from audit.statistics.verdict import ALPHA, usable
from reports.record import Comparison, Record
from reports.wording import points


@dataclass(frozen=True)
class Change:
    """How far an attack's margin is above the baseline's; `looks` is None where there is nothing to compare."""

    attack: str
    now: float
    before: float = 0.0
    looks: Looks | None = None
    p: float = 1.0  # one-sided p-value of "at most the tolerance", Holm-adjusted over all attacks

    @property
    def same(self) -> bool:
        """Whether all students have the same correct answers as in the baseline."""
        return self.looks is not None and self.looks.last.discordant == 0

    @property
    def usable(self) -> bool:
        """Whether its interval can support a conclusion."""
        return self.looks is not None and usable(self.looks.last)

    @property
    def upper(self) -> float:
        """The one-sided 95 % upper bound over all looks."""
        return self.looks.upper(ALPHA) if self.looks is not None and self.usable else 1.0

    @property
    def regressed(self) -> bool:
        """Whether the change is significantly above the tolerance."""
        return self.p < ALPHA

    def held(self, delta: float) -> bool:
        """Whether the change is significantly below the tolerance."""
        return self.same or self.upper < delta

    def __str__(self) -> str:
        if self.looks is None:
            return f"{self.attack} ({points(self.now)} points, not judged in the baseline)"
        low, high = self.looks.last.interval()
        grew = points(self.looks.last.mean)
        told = f"{points(self.now)} points against {points(self.before)}: {grew} [{points(low)}, {points(high)}]"
        return f"{self.attack} ({told})"


def unlike(now: Record, before: Record) -> str | None:
    """Name the first difference that makes two records' margins incomparable; None if there is none."""
    asked, was = question(now), question(before)
    made, had = versions(now), versions(before)
    other = [f"version of {name}" for name in made if had.get(name) and made[name] and made[name] != had[name]]
    return next((what for what, value in asked.items() if was[what] != value), next(iter(other), None))


def lost(now: Record, before: Record, waived: Container[str]) -> list[str]:
    """Name the attacks that only the baseline judged, except those that are now identical to their control."""
    kept = {(row.attack, row.student) for row in now.comparisons if row.knockoff.students or row.status == "identical"}
    rows = [row for row in before.comparisons if row.knockoff.students and row.attack not in waived]
    return [before.name_of(row) for row in rows if (row.attack, row.student) not in kept]


def changes(now: Record, before: Record, waived: Container[str], delta: float) -> list[Change]:
    """Compare the margin of every judged attack with that of the baseline, over all looks of both."""
    facts, earlier = results(now), results(before)
    rows = {(row.attack, row.student): row for row in before.comparisons if row.knockoff.students}
    judged = [row for row in now.comparisons if row.knockoff.students and row.attack not in waived]
    found = [_change(facts, row, earlier, rows.get((row.attack, row.student))) for row in judged]
    adjusted = holm([c.looks.p_above(delta) if c.looks is not None and c.usable else 1.0 for c in found])
    return [replace(change, p=p) for change, p in zip(found, adjusted, strict=True)]


def _change(facts: RecordResults, row: Comparison, earlier: RecordResults, other: Comparison | None) -> Change:
    name, mine = facts.record.name_of(row), facts.both(row)
    if other is None:
        return Change(name, _margin(mine))
    theirs = earlier.both(other)
    numbers = sorted({*row.looks, *other.looks})
    margins = tuple(
        differing((mine[0][:n], mine[1][:n]), (theirs[0][:n], theirs[1][:n]), facts.groups) for n in numbers
    )
    return Change(name, _margin(mine), _margin(theirs), Looks(margins, facts.record.look.horizon))


def _margin(students: tuple[Correct, Correct]) -> float:
    knockoff, control = students
    return float(knockoff.mean() - control.mean())
