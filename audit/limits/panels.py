"""One attacker on one surface: look at budgets until the largest safe one is known. Pure but for what looks.

`audit limit` looks by auditing, and `audit verify` by reading the records of these audits again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from audit.limits import search
from audit.limits.judged import judged, working
from reports.limit import wording
from reports.limit.document import Cell, Outcome, Panel
from reports.record import Record, digest
from reports.settings import ALPHA

WITHOUT: Final = ("none", "surrogate")  # attackers without an image of the task, the one with less first
WHY: Final[dict[Outcome | None, str]] = {
    "safe": "safe with more queries",
    "gains": "gains with fewer queries",
    None: "",
}
Panels = Mapping[tuple[str, str], Panel]  # by surface and what the attacker holds


class Asker(NamedTuple):
    """An attacker on one surface: what they hold, which attacks they can run, and with which budgets."""

    surface: str
    hold: str
    attacks: tuple[str, ...]
    images: int  # of the task
    budgets: tuple[int | None, ...]  # in increasing order, the last one without a limit

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.surface}, {wording.holder(self.hold)}"

    @property
    def alpha(self) -> float:
        """The error rate of each look."""
        return ALPHA / search.looks(len(self.budgets))

    def place(self, budget: int | None) -> str:
        """Return the folder of a budget's audit, in that of the limit."""
        return f"cells/{self.surface.replace(':', '-')} {self.hold}/{'all' if budget is None else budget}"


def in_order(surfaces: Sequence[str], holds: Sequence[str]) -> list[tuple[str, str]]:
    """Order attackers so that those who may decide others come first: who see less, and who hold less."""
    shown = sorted(surfaces, key=lambda one: sum(search.simulates(one, other) for other in surfaces))
    held = sorted(holds, key=lambda kind: WITHOUT.index(kind) if kind in WITHOUT else len(WITHOUT))
    return [(surface, hold) for surface in shown for hold in held]


def panel(asker: Asker, others: Panels, look: Callable[[int | None], Record]) -> Panel:
    """Search the largest safe budget; `look` gives the record of a budget's audit, `others` the panels so far."""
    number = len(asker.budgets)
    less = [other for key, other in others.items() if _can(asker, *key)]
    cells, works = _decided(asker, less), {name for other in less for name in other.works}
    outcomes: dict[int, Outcome] = dict.fromkeys(cells, "gains")
    while (at := search.following(outcomes, number)) is not None:
        budget = asker.budgets[at]
        record = look(budget)
        found = judged(record, works)
        cells[at] = Cell(budget=budget, folder=asker.place(budget), record=digest(record), **found)
        outcomes[at] = found["outcome"]
        works |= working(record)
    implied = enumerate(zip(asker.budgets, search.implied(outcomes, number), strict=True))
    return Panel(
        surface=asker.surface,
        hold=asker.hold,
        images=asker.images,
        attacks=asker.attacks,
        works=tuple(sorted(works)),
        looks=search.looks(number),
        alpha=asker.alpha,
        cells=tuple(
            cells.get(at) or Cell(budget=budget, outcome=outcome, why=WHY[outcome]) for at, (budget, outcome) in implied
        ),
    )


def _can(asker: Asker, surface: str, hold: str) -> bool:
    """Whether an attacker can do all that another one can, who sees less or holds less."""
    sees = search.simulates(asker.surface, surface) and hold == asker.hold
    return sees or (surface == asker.surface and (hold, asker.hold) == WITHOUT)


def _decided(asker: Asker, less: Sequence[Panel]) -> dict[int, Cell]:
    """Return the smallest budget at which those who can do less gain already; empty where none does."""
    found = {}
    for other in less:
        if other.gains is not None:
            at = search.smallest(asker.budgets, other.gains.budget)
            why = f"gains through {other.surface} with {wording.holder(other.hold)}"
            found[at] = Cell(budget=asker.budgets[at], outcome="gains", why=why)
    first = min(found, default=None)
    return {} if first is None else {first: found[first]}
