"""Write an attack's margins over each kind of control, in the same way in every report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from reports.record import Comparison, ControlMargin, Over, Record
from reports.wording import MISSING, points, span

HEADS: Final[Mapping[Over, str]] = {
    "ls": "over the LS student",
    "own loss": "over its loss without a teacher",
    "twin": "over a twin",
    "home-made": "over a home-made teacher",
}
NOTE: Final = (
    "A twin is a teacher that the attacker trains on their own data, with the student's architecture; a home-made "
    "teacher is the ordinary teacher of the attacker's own data. A teacher is DISTILLABLE only if an attack gains over "
    "the first three. The last margin does not affect the verdict."
)


def rows(record: Record) -> list[Comparison]:
    """Return the attacks that have such margins, the largest margin first."""
    told = [row for row in record.comparisons if row.margins and row.margin is not None]
    return sorted(told, key=lambda row: -row.margin.mean if row.margin else 0.0)


def cells(row: Comparison) -> list[str]:
    """Write an attack's margins in points with their 95 % intervals, in the order of HEADS."""
    return [MISSING if found is None else told(found) for found in (row.margin_over(over) for over in HEADS)]


def told(found: ControlMargin) -> str:
    """Write one margin in points, with its two-sided 95 % interval."""
    return f"{points(found.margin.mean)} {span(found.margin)}"


def bounds(found: ControlMargin) -> str:
    """Write the one-sided bounds that hold over all looks; empty for a margin that has no looks."""
    if found.over == "home-made":
        return ""
    return f"at least {points(found.margin.lower)}, at most {points(found.margin.upper)}"


def plain(row: Comparison) -> list[dict[str, Any]]:
    """Return an attack's margins as plain data, for JSON."""
    names = ("mean", "low", "high", "lower", "upper", "p", "seeds")
    return [
        {"over": found.over, "control": found.name, **{name: getattr(found.margin, name) for name in names}}
        for found in row.margins
    ]


def beaten(row: Comparison) -> str:
    """Name what an attack gains over beside the LS student; empty where the record does not tell it."""
    names: Mapping[Over, str] = {
        "own loss": ", than one with the attack's loss and no teacher",
        "twin": ", and than one that learns from a twin",
    }
    return "".join(text for over, text in names.items() if row.margin_over(over) is not None)


def home(row: Comparison) -> str:
    """Say what a teacher trained at home gives an attack; empty where the record does not tell it."""
    found = row.margin_over("home-made")
    if found is None:
        return ""
    if found.margin.low > 0:
        return f"a teacher trained at home gives less: over it the margin is {told(found)} points"
    more = "more" if found.margin.high < 0 else "as much"
    return f"a teacher trained at home gives {more}: over it the margin is {told(found)} points"
