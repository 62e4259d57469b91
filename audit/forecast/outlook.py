"""What a running audit may train yet: its design, with what students have decided and else with what takes most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from audit.context import RunContext
from audit.execution.runner import TrialRunner
from audit.forecast.forecast import targets
from audit.plan.count import ForecastChoices, walk
from audit.plan.design import Arm, Pair, TeacherRole
from audit.trials import preparation as plan
from audit.trials.protocol import StudentTrials, trials
from reports.progress import Left, Outlook
from reports.record import Regime
from teachers import networks
from teachers.networks import Shape
from teachers.targets.home import LateBox, Lesson
from teachers.targets.target import Target


@dataclass(frozen=True)
class ChoicesSoFar:
    """What students have decided; where they are not there yet, what takes most."""

    trials: StudentTrials

    @property
    def _dearest(self) -> ForecastChoices:
        return ForecastChoices(self.trials.design, sharing=False)

    def _there(self, arms: Iterable[Arm]) -> bool:
        return all(self.trials.runner.known(key) for arm in arms for key in self.trials.keys(arm))

    def best(self, arms: tuple[Arm, ...]) -> Arm | None:
        """Return what is best on validation; until all are trained, any that may be."""
        left = self.trials.design.finals(self, arms)
        there = self._there(self.trials.design.heats(arms)) and self._there(left)
        return self.trials.best(arms) if there else self._dearest.best(left)

    def leaders(self, race: tuple[Arm, ...], number: int) -> tuple[Arm, ...]:
        """Return the settings that are best on their first seed; until all are trained, any so many."""
        there = self._there(self.trials.design.heats(race))
        return (self.trials if there else self._dearest).leaders(race, number)

    def regime(self, arm: Arm) -> Regime | None:
        """Return the training conditions of a setting; until it is trained, such as no other has."""
        there = all(map(self.trials.runner.known, self.trials.keys(arm)[:1]))
        return (self.trials if there else self._dearest).regime(arm)

    def set_aside(self, pair: Pair) -> str | None:
        """Return why an attack is its own control, as far as that is known."""
        return self.trials.set_aside(pair) if self._there([pair.knockoff]) else None

    def queries(self, arm: Arm) -> int | None:
        """Return the queries of an arm; until it is trained, any number."""
        return (self.trials if self._there([arm]) else self._dearest).queries(arm)

    def seeds(self, attack: type) -> int:
        """Return the seeds of the last look."""
        return self._dearest.seeds(attack)


@dataclass
class Foresight:
    """Says what an audit may train yet, at most."""

    context: RunContext
    runner: TrialRunner

    def __call__(self, group: Sequence[StudentTrials], table: Sequence[StudentTrials] = ()) -> Outlook:
        """Return what is left of a group of attacks, and of the whole table.

        `table`: without it, that of an ordinary teacher that is not trained yet.
        """
        return Outlook(self._left(group), self._left(table or self._table))

    @cached_property
    def _teachers(self) -> dict[TeacherRole, Target]:
        return targets(self.context)

    @cached_property
    def _table(self) -> list[StudentTrials]:
        attacks = self.context.selection.attacks
        return [trials(own, self.runner, self._teachers, attacks) for own in plan.for_students(self.context.experiment)]

    @cached_property
    def _lessons(self) -> dict[str, Lesson]:
        """How teachers of the audit's own are trained, by fingerprint."""
        experiment, runtime = self.context.experiment, self.context.runtime
        own = [*experiment.twins(self._teachers, runtime), *experiment.home_made(self._teachers, runtime)]
        every = [*own, *self._teachers.values()]
        return {one.fingerprint: one.full.lesson for one in every if isinstance(one.full, LateBox)}

    def _left(self, students: Sequence[StudentTrials]) -> Left:
        found: dict[str, float] = {}  # the time that a student takes, by key
        lessons: dict[str, Lesson] = {}
        for one in students:
            for _, arm in walk(one.design, ChoicesSoFar(one)):
                length = arm.share * arm.recipe.steps / one.design.recipe.steps
                for cell, key in zip(one.cells(arm), one.keys(arm), strict=True):
                    if key not in found and not self._there(key):
                        found[key] = length
                        if cell.teacher in self._lessons:
                            lessons[cell.teacher] = self._lessons[cell.teacher]
        due = [lesson for lesson in lessons.values() if lesson.is_due()]
        return Left(len(found), len(due), sum(found.values()) + sum(map(self._worth, due)))

    def _there(self, key: str) -> bool:
        return self.runner.known(key) or self.context.cache.has(key)

    def _worth(self, lesson: Lesson) -> float:
        """Return how many students take as long as a teacher: by steps, and by weights where it is another network."""
        mine, theirs = self.context.experiment.recipe, lesson.recipe().recipe
        shape, classes = lesson.task.shape, len(lesson.task.classes)
        sizes = [_weights(name, classes, shape) for name in (theirs.architecture, mine.architecture)]
        alone = 1 if lesson.student else self.runner.workers  # all other workers wait for it
        return alone * theirs.steps / mine.steps * sizes[0] / sizes[1]


@lru_cache
def _weights(architecture: str, classes: int, shape: Shape) -> int:
    return sum(p.numel() for p in networks.build(architecture, classes, shape).parameters())
