"""How many students an audit trains, before any of them is trained: the design under imagined choices. No torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from audit.plan.design import Arm, Choices, Design, Pair, TeacherRole, labels_only
from reports.record import Regime

if TYPE_CHECKING:  # it imports torch
    from attacks.base import Attack, Technique

QUERIES = 1_000_000  # of an attack, imagined: any number with room for the points of a curve
TUNING, POSITIVE = "tuning", "positive control"


class Work(NamedTuple):
    """Students that cost the same: `least` where everything is settled at the first look, `most` where nothing is."""

    phase: str
    technique: type[Technique]
    teacher: TeacherRole | None  # that they ask
    length: float  # times the usual steps, or the usual queries
    tested: bool  # whether they answer the test images, too
    least: int
    most: int


class CountedChoices(Choices, Protocol):
    """Choices that also say at how many seeds an attack is judged."""

    def seeds(self, attack: type[Attack]) -> int:
        """Return the seeds of the look that decides."""


@dataclass(frozen=True)
class ForecastChoices:
    """Choices with which attacks share as many students as they can, or as few."""

    design: Design
    sharing: bool

    def best(self, arms: tuple[Arm, ...]) -> Arm | None:
        """Return the first; where little is shared, the last control, and another setting on the ordinary teacher."""
        if not arms or self.sharing or arms[0].chosen_from or arms[0].target == "ordinary":
            return next(iter(arms), None)
        return arms[-1]

    def leaders(self, race: tuple[Arm, ...], number: int) -> tuple[Arm, ...]:
        """Return the first ones; where little is shared the last, which are chosen."""
        return race[:number] if self.sharing else race[-number:]

    def regime(self, arm: Arm) -> Regime | None:
        """Return the plain recipe on the attack's views; where nothing is shared, views like no other's."""
        view = (arm.attack.views or "crop") if self.sharing else repr(arm.technique)
        return Regime(recipe=self.design.recipe.settings, view=view, source="original")

    def set_aside(self, pair: Pair) -> str | None:
        """Set label-only attacks aside where much is shared: the teacher may repeat the labels."""
        return "imagined" if self.sharing and labels_only(pair.knockoff.attack) else None

    def queries(self, arm: Arm) -> int | None:
        """Return the same number for all."""
        return QUERIES

    def seeds(self, attack: type[Attack]) -> int:
        """Return the seeds of the look that decides."""
        return self.design.first_seeds(attack, self.design.seeds) if self.sharing else self.design.most


def students(design: Design, keys: Callable[[Arm], Collection[str]], stored: Collection[str] = ()) -> list[Work]:
    """Count the students of every phase; each is trained once.

    `keys` names an arm's students; those in `stored` are not counted.
    """
    counts: dict[tuple[Any, ...], list[int]] = {}
    for end, sharing in ((1, False), (0, True)):  # the audit that trains most has every phase
        seen = set(stored)
        for phase, arm in walk(design, ForecastChoices(design, sharing)):
            fresh = set(keys(arm)) - seen
            seen |= fresh
            length = arm.share * arm.recipe.steps / design.recipe.steps
            alike = phase, type(arm.technique), arm.teacher, length, arm.splits == "both"
            counts.setdefault(alike, [0, 0])[end] += len(fresh)
    return [Work(*alike, *span) for alike, span in counts.items()]


def walk(design: Design, choices: CountedChoices) -> Iterator[tuple[str, Arm]]:
    """Return all arms in the order of an audit, each with its phase; judged ones with the seeds of one look."""
    pairs = design.pairs(choices)
    open_ = (pair for pair in pairs["audited"].values() if choices.set_aside(pair) is None)
    judged = (arm for pair in open_ for arm in design.at_look(choices, pair, choices.seeds(pair.knockoff.attack)))
    for phase, arms in ((TUNING, design.tuning()), ("matching controls", design.matching(choices))):
        yield from ((phase, arm) for arm in (*design.heats(arms), *design.finals(choices, arms)))
    yield from (("twice the steps", arm) for arm in design.longer(choices, pairs))
    yield from (("judging", arm) for arm in judged)
    for arm in design.beside(choices, pairs):
        yield POSITIVE if arm.role == "positive control" else "judging", arm
    for arm in design.cheaper(choices, pairs):
        yield POSITIVE if arm.role == "positive control" else "smaller budgets", arm
