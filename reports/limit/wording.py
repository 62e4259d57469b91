"""Format what `audit limit` found in the same way on the page, in Markdown and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from reports.limit.document import Cell, Limit, Outcome, Panel
from reports.wording import MISSING, count, ends, percent, points

HOLDERS: Final = {"none": "no images", "surrogate": "other images", "1": "all of the data"}
WORDS: Final[dict[Outcome | None, str]] = {
    "safe": "safe",
    "gains": "an attack gains",
    "open": "not decided",
    None: "nobody looked",
}
HOW: Final = (
    "A budget is safe if every attack of such an attacker was tried, at least one of them is known to work, and the "
    "upper bound of every gain is below the tolerance. The gain is that over the best that the same attacker can do "
    "without the teacher: a student on their own images or, without images of the task, naming the largest class. What "
    "is safe with many queries is safe with fewer, and what gains with few gains with more: only the budgets that no "
    "other one decides were looked at, the largest first, then by bisection."
)
COUNTED: Final = (
    "A budget counts all queries that one attacker makes, from however many accounts: a limit for each account holds "
    "only where an attacker cannot open more of them."
)


def title(limit: Limit) -> str:
    """Name what was asked."""
    return f"How much may {limit.teacher} answer?"


def holder(hold: str) -> str:
    """Write what an attacker holds."""
    return HOLDERS.get(hold) or f"{100 * float(hold):g} % of the data"


def budget(cell: Cell | None) -> str:
    """Write a budget."""
    if cell is None:
        return MISSING
    return f"no limit ({count(cell.queries)} asked)" if cell.budget is None and cell.queries else count(cell.budget)


def sentences(limit: Limit) -> list[str]:
    """Say for every surface which limit can be written down, and for whom none can."""
    return [_sentence(limit, surface) for surface in dict.fromkeys(panel.surface for panel in limit.panels)]


def _sentence(limit: Limit, surface: str) -> str:
    panels = [panel for panel in limit.panels if panel.surface == surface]
    held = [(panel, panel.safe) for panel in panels if panel.safe is not None]
    finite = [cell.budget for _, cell in held if cell.budget is not None]
    said = []
    if held:
        most = f"{count(min(finite))} queries in all are" if finite else "any number of queries is"
        holders = _either([holder(panel.hold) for panel, _ in held])
        gain = f"no attack in scope gains {100 * limit.delta:g} points"
        said.append(f"Through {surface}, {most} safe where attackers hold {holders}: {gain}.")
    for panel in panels:
        if panel.safe is None:
            where = f"Through {surface}, where" if not said else "Where"
            said.append(f"{where} they hold {holder(panel.hold)}, no number was shown to be safe{_first(panel)}.")
    return " ".join(said)


def _either(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _first(panel: Panel) -> str:
    """Say with how few queries an attack gains."""
    cell = panel.gains
    if cell is None:
        return ""
    asked = "as many queries as it asks" if cell.budget is None else f"{count(cell.budget)} queries"
    if cell.gain is None:
        return f": an attack {cell.why}, {asked}" if cell.why else ""
    return f": {cell.attack} gains {gain(cell)} points with {asked}"


def gain(cell: Cell | None) -> str:
    """Write a gain with its sure range, in points."""
    if cell is None or cell.gain is None:
        return MISSING
    return f"{points(cell.gain.mean)} {ends((cell.gain.lower, cell.gain.upper))}"


HEADS: Final = (
    *("Surface", "Attackers hold", "Safe up to", "Gain there", "Gains from", "Gain from there", "Budgets looked at"),
)
EXTRA: Final = ("Gain there", "Gain from there", "Budgets looked at")  # not shown on a phone
CELL_HEADS: Final = ("Budget, queries", "Outcome", "Attack", "Gain, points", "Copy", "Without", "Why")


def summary(panel: Panel) -> tuple[str, ...]:
    """Write the numbers of an attacker, by HEADS: limit, largest gain there, and the smallest number that gains."""
    looked = sum(cell.audited for cell in panel.cells)
    found = (text for cell in (panel.safe, panel.gains) for text in (budget(cell), _named(cell)))
    return panel.surface, holder(panel.hold), *found, f"{looked} of {len(panel.cells)}"


def _named(cell: Cell | None) -> str:
    return MISSING if cell is None or cell.gain is None else f"{gain(cell)}, {cell.attack}"


def outcome(cell: Cell) -> str:
    """Write a cell's outcome, and whether it was looked at."""
    return WORDS[cell.outcome] if cell.audited or cell.outcome is None else f"{WORDS[cell.outcome]} (decided by others)"


def row(cell: Cell) -> tuple[str, ...]:
    """Write the numbers of a cell, by CELL_HEADS."""
    accuracies = percent(cell.copied), percent(cell.without)
    return budget(cell), outcome(cell), cell.attack or MISSING, gain(cell), *accuracies, cell.why


def paid(panel: Panel) -> str:
    """Say over how many looks the error rate was shared."""
    return f"The error rate is shared over {panel.looks} looks, {100 * panel.alpha:.3g} % each"
