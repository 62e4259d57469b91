"""Format the board in the same way on the page, in Markdown and on the terminal."""

from __future__ import annotations

from typing import Final

from reports.board.document import Board, Correlation, Gain, Panel, Row
from reports.wording import MISSING, count, ends, number, points

ORDER: Final = (
    "Ranked by the largest upper end of a sure range over all attacks: every attack surely gains less than that. The "
    "teacher whose answers are worth least comes first. Teachers of which not all attacks have run come last."
)
SIDES: Final = (
    "Passive attacks take the answers as they are. Adaptive ones first read what the answers mean: their scale, their "
    "order, which classes were exchanged. The gap is the largest adaptive margin minus the largest passive one, with a "
    "95 % interval. Both were chosen because they are large, and the interval does not correct for that."
)


def title(board: Board) -> str:
    """Return the title of all pages."""
    teachers = {row.entry.sha256 for panel in board.panels for row in panel.rows}
    audits = sum(len(panel.rows) for panel in board.panels)
    several = [
        f"{count(number)} {name}{'s' * (number != 1)}"
        for number, name in ((audits, "audit"), (len(teachers), "teacher"), (len(board.panels), "panel"))
    ]
    return f"{several[0]} of {several[1]}, in {several[2]}"


def sentence(panel: Panel) -> str:
    """Say what a panel shows."""
    bounded = [row for row in panel.rows if row.largest is not None]
    if not bounded:
        return "No teacher has been audited with all attacks."
    first = bounded[0]
    assert first.largest is not None
    reached = sum(row.largest is not None and row.largest.high < panel.delta for row in bounded)
    return (
        f"Every attack surely gains less than {points(first.largest.high, sign=False)} points from {first.entry.name}, "
        f"the least of all. Less than the tolerance of {points(panel.delta, sign=False)} points: {reached or 'none'} "
        f"of {count(len(bounded))} teachers."
    )


def gain(found: Gain | None) -> str:
    """Write a margin with its sure range, in points."""
    return MISSING if found is None else f"{points(found.mean)} {ends((found.low, found.high))}"


def attack(found: Gain | None) -> str:
    """Name the attack of a margin."""
    return MISSING if found is None else found.attack


def upper(row: Row) -> str:
    """Write the bound that ranks a teacher, in points."""
    return MISSING if row.largest is None else points(row.largest.high)


def cmi(found: Correlation | None) -> str:
    """Say how CMI and margin go together."""
    if found is None:
        return (
            "CMI and the largest margin have no rank correlation: fewer than five teachers have both, or all are equal."
        )
    return (
        f"Rank correlation of CMI and the largest margin: {number(found.rho, 2)} [{number(found.low, 2)}, "
        f"{number(found.high, 2)}], {count(found.entries)} teachers counted as independent."
    )


def remarks(panel: Panel) -> list[str]:
    """Name the entries with unjudged attacks: their bound may be too small."""
    return [f"{row.entry.name}: not judged: {', '.join(row.entry.missing)}." for row in panel.rows if row.entry.missing]
