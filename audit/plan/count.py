"""How many students an audit trains, before any of them is trained: the design under imagined choices. No torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

from audit.plan.design import Arm, Design, Pair, TeacherRole, labels_only
from reports.record import Regime

if TYPE_CHECKING:  # it imports torch
    from attacks.base import Attack, Technique

QUERIES = 1_000_000  # of an attack, imagined: any number with room for the points of a curve
SHOWN = "positive control"


class Students(NamedTuple):
    """Students that cost the same."""

    technique: type[Technique]
    teacher: TeacherRole | None  # that they ask
    length: float  # times the usual steps, or the usual queries
    tested: bool  # whether they answer the test images, too


class Work(NamedTuple):
    """Students to train: `least` where everything is settled at the first look, `most` where nothing is."""

    students: Students
    least: int
    most: int


@dataclass(frozen=True)
class Phase:
    """What is trained together."""

    name: str
    work: tuple[Work, ...]

    @property
    def least(self) -> int:
        """Students, at least."""
        return sum(work.least for work in self.work)

    @property
    def most(self) -> int:
        """Students, at most."""
        return sum(work.most for work in self.work)


@dataclass(frozen=True)
class Imagined:
    """Choices with which attacks share as many students as they can, or as few."""

    design: Design
    sharing: bool

    def best(self, arms: tuple[Arm, ...]) -> Arm | None:
        """Return the first; where little is shared, the last control, and another setting on the ordinary teacher."""
        if not arms or self.sharing or arms[0].chosen_from or arms[0].target == "ordinary":
            return next(iter(arms), None)
        return arms[-1]

    def regime(self, arm: Arm) -> Regime | None:
        """Return the plain recipe on the attack's views; where nothing is shared, views like no other's."""
        view = (arm.attack.views or "crop") if self.sharing else repr(arm.technique)
        return Regime(recipe=asdict(self.design.recipe), view=view, source="original")

    def set_aside(self, pair: Pair) -> str | None:
        """Set label-only attacks aside where much is shared: the teacher may repeat the labels."""
        return "imagined" if self.sharing and labels_only(pair.knockoff.attack) else None

    def queries(self, arm: Arm) -> int | None:
        """Return the same number for all."""
        return QUERIES

    def seeds(self, attack: type[Attack]) -> int:
        """Return the seeds of the look that decides."""
        return self.design.first_seeds(attack, self.design.seeds) if self.sharing else self.design.most


def phases(design: Design, keys: Callable[[Arm], Collection[str]], stored: Collection[str] = ()) -> list[Phase]:
    """Count the students of every phase; each is trained once.

    `keys` names an arm's students; those in `stored` are not counted.
    """
    counts: dict[str, dict[Students, list[int]]] = {}
    for end, sharing in ((1, False), (0, True)):  # the audit that trains most has every phase
        seen = set(stored)
        for name, arm in _walk(design, Imagined(design, sharing)):
            fresh = set(keys(arm)) - seen
            seen |= fresh
            counts.setdefault(name, {}).setdefault(_students(design, arm), [0, 0])[end] += len(fresh)
    found = (
        Phase(name, tuple(Work(students, *span) for students, span in work.items() if any(span)))
        for name, work in counts.items()
    )
    return [phase for phase in found if phase.work]


def _walk(design: Design, choices: Imagined) -> Iterator[tuple[str, Arm]]:
    """Return all arms in the order of an audit, each with its phase."""
    pairs = design.pairs(choices)
    open_ = (pair for pair in pairs["audited"].values() if choices.set_aside(pair) is None)
    judged = (arm for pair in open_ for arm in design.judged(pair, choices.seeds(pair.knockoff.attack)))
    yield from (("tuning", arm) for arm in design.tuning())
    yield from (("matching controls", arm) for arm in design.matching(choices))
    yield from (("twice the steps", arm) for arm in design.longer(choices, pairs))
    yield from (("judging", arm) for arm in judged)
    for arm in design.beside(choices, pairs):
        yield SHOWN if arm.role == "bite" else "judging", arm
    for arm in design.cheaper(choices, pairs):
        yield SHOWN if arm.role == "bite" else "smaller budgets", arm


def _students(design: Design, arm: Arm) -> Students:
    length = arm.share * arm.recipe.steps / design.recipe.steps
    return Students(type(arm.technique), arm.teacher, length, arm.splits == "both")
