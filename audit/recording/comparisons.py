"""From trained cells to the students and rows of a record; every number of them follows in `audit.analysis.derive`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

from attacks.base import Attack
from audit.execution.runner import TrialRunner
from audit.plan import suite
from audit.plan.cells import Use
from audit.plan.design import TENTH, Arm, Design, Pair, labels_only
from audit.recording.teacher import Predictions
from audit.trials.protocol import Experiment, StudentTrials
from reports.record import (
    PLANNED,
    UNMEASURED,
    BaselineResult,
    Comparison,
    ControlMargin,
    ControlResult,
    Cost,
    KnockoffResult,
    Over,
    PackedArray,
    PositiveControl,
    Trial,
)
from teachers.task import Pool, known

DIVERGED = "a student diverged (NaN)"


@dataclass(frozen=True)
class ComparisonBuilder:
    """Names the students that each row compares."""

    trials: StudentTrials

    @property
    def experiment(self) -> Experiment:
        """What the students' cells share."""
        return self.trials.experiment

    @property
    def design(self) -> Design:
        """Which students are compared with which."""
        return self.trials.design

    @cached_property
    def baselines(self) -> list[Arm]:
        """The students without a teacher, the LS student with the plain recipe first."""
        return self.design.best_alone(self.trials)

    def attack(self, attack: type[Attack]) -> Comparison:
        """Return one attack's row: its knockoff students and their LS students, or why there are none."""
        surface, trials = self.trials.targets["audited"].surface, self.trials
        on_ordinary = trials.pairs[self.design.ordinary].get(attack.name) if self.design.table else None
        row = partial(
            Comparison,
            attack=attack.name,
            student=self.experiment.recipe.architecture,
            title=attack.title,
            paper=attack.paper,
            holds=attack.holds,
            needs=attack.needs,
            outside_suite=attack.name not in self.experiment.suite.attacks,
            positive_control=None if on_ordinary is None else self._positive_control(on_ordinary),
        )
        if not surface.offers(attack.needs):
            return row(status="not applicable", reason=f"it needs {attack.needs}, the surface shows {surface.name}")
        if attack.name not in self.design.attacks["audited"]:
            return row(status="planned", reason=PLANNED)
        mine = trials.pairs["audited"].get(attack.name)
        if mine is None:
            return row(status="failed", reason=self._failure(attack))
        parameters, tried = mine.knockoff.technique.parameters, len(mine.knockoff.chosen_from)
        knockoff = partial(KnockoffResult, parameters=parameters, tuned_over=tried)
        control = partial(ControlResult, name=mine.control.name, parameters=mine.control.technique.parameters)
        identical = trials.set_aside(mine)
        if identical is not None:
            return row(status="identical", reason=identical, knockoff=knockoff(), control=control())
        looks = trials.looks[attack.name]
        knockoffs, students = self.design.judged(mine, looks[-1])
        rivals = {o: arm.on("judge", looks[-1]) for o, arm in self.design.rivals(trials, mine).items()}
        others = [arm for arm in rivals.values() if trials.keys(arm) != trials.keys(students)]
        if not trials.sound(knockoffs, *others) or trials.failure(students) is not None:
            failure = self._failure(attack, knockoffs, *others)
            return row(status="failed", reason=failure, knockoff=knockoff(), control=control())
        return row(
            status="judged",
            knockoff=knockoff(students=trials.keys(knockoffs)),
            control=control(students=trials.keys(students)),
            baseline=self._baseline(mine.control, looks[0]),
            looks=looks,
            curve=self._curve(mine) if attack.holds != "original" and self.design.table else (),
            margins=self._margins(rivals, on_ordinary),
        )

    def _margins(self, rivals: dict[Over, Arm], on_ordinary: Pair | None) -> tuple[ControlMargin, ...]:
        """Name the students of every kind of control; a home-made teacher's are left out where one of them failed."""
        home = None if on_ordinary is None else self.design.home(on_ordinary)
        found = rivals if home is None or not self.trials.sound(home) else {**rivals, "home-made": home}
        return tuple(
            ControlMargin(over=over, name=arm.name, parameters=arm.technique.parameters, students=self.trials.keys(arm))
            for over, arm in found.items()
        )

    def controls(self) -> list[Comparison]:
        """Return the rows of the null control and of the no-victim baselines."""
        ls, *others = self.baselines
        return [self._null(self.design.null(self.trials)), *(self._control(base, ls) for base in others)]

    def _null(self, null: Pair) -> Comparison:
        """Return the row of LS students against LS students of other seeds, paired as attacks are."""
        others, ls = null
        return Comparison(
            attack=suite.NULL_NAME,
            student=self.experiment.recipe.architecture,
            title="LS students against LS students of other seeds",
            paper=ls.technique.paper,
            holds="original",
            needs="label",
            status="judged",
            knockoff=KnockoffResult(parameters=ls.technique.parameters, students=self.trials.keys(others)),
            control=ControlResult(name=ls.name, parameters=ls.technique.parameters, students=self.trials.keys(ls)),
        )

    def _control(self, baseline: Arm, ls: Arm) -> Comparison:
        """Return the row of a no-victim baseline against the LS student; outside the verdict."""
        arms = [arm.on("judge", self.experiment.seeds) for arm in (baseline, ls)]
        fine, control = self.trials.sound(*arms), baseline.technique
        mine, theirs = (self.trials.keys(arm) if fine else () for arm in arms)
        return Comparison(
            attack=control.name,
            student=self.experiment.recipe.architecture,
            title=control.title,
            paper=control.paper,
            holds="original",
            needs="label",
            status="judged" if fine else "failed",
            reason="" if fine else DIVERGED,
            knockoff=KnockoffResult(parameters=control.parameters, tuned_over=len(baseline.chosen_from), students=mine),
            control=ControlResult(name=ls.name, parameters=ls.technique.parameters, students=theirs),
        )

    def _baseline(self, control: Arm, seeds: int) -> BaselineResult | None:
        """Return the attacker's best alternative without the teacher, as validation ranks them.

        That is the attack's own LS student where no other baseline is better.
        """
        best, trials = max(self.baselines, key=self.trials.score), self.trials
        if trials.score(best) <= trials.score(control):
            return BaselineResult(name=control.name, students=trials.keys(control.on("judge", seeds)))
        judged = best.on("judge", seeds)
        return BaselineResult(name=best.name, students=trials.keys(judged)) if trials.sound(judged) else None

    def _positive_control(self, pair: Pair) -> PositiveControl | None:
        """Return an attack's students and those of the baseline of its own threat model, on the ordinary teacher."""
        attack, own = pair.knockoff.attack, pair.control.target is not None
        baseline = pair.control.name if own else "LS student"  # of labels alone, where that is better on validation
        if attack.holds != "original":
            points = self._curve(pair)
            baseline = "largest class, and the same attack at its smallest budget"
            found = PositiveControl(baseline=baseline, students=points[-1].students if points else (), curve=points)
            return found if len(points) > 1 else None
        if labels_only(attack):
            baseline = f"LS student on {TENTH:.0%} of the labels"
        positive = self.design.positive(pair)
        mine, control = map(self.trials.keys, positive)
        found = PositiveControl(baseline=baseline, students=mine, control_students=control)
        return found if self.trials.sound(*positive) else None

    def _curve(self, pair: Pair) -> tuple[Cost, ...]:
        """Return the students of a steal-cost curve; nothing where one of them failed or diverged."""
        points = self.design.curve(self.trials, pair)
        if not self.trials.sound(*points):
            return ()
        keys = map(self.trials.keys, points)
        return tuple(Cost(queries=0, accuracy=UNMEASURED, agreement=0, students=students) for students in keys)

    def _failure(self, attack: type[Attack], *judged: Arm) -> str:
        """Return why an attack failed, in one sentence."""
        tried = self.design.settings(attack, "audited")
        controls = [arm for setting in tried for arm in self.design.controls(self.trials, setting)]
        failure = self.trials.failure(*tried, *judged, *controls, *self.design.twins(attack))
        return DIVERGED if failure is None else failure.sentence


def trial(experiment: Experiment, runner: TrialRunner, use: Use, tops: dict[str, Predictions]) -> Trial:
    """Return what the record keeps of one student, image by image."""
    result = runner.results[use.cell.key]
    cell, test = result.cell, None if result.test is None else result.test.array()
    top = tops[use.teacher or "audited"].test
    return Trial(
        key=cell.key,
        cell=cell,
        kind=use.kind,
        role=use.role,
        teacher=use.teacher,
        labels=_labelled(runner.pools[cell.pool]),
        regime=result.regime,
        validation_correct=PackedArray.of(result.validation.array() == known(experiment.task.validation)),
        test_correct=None if test is None else PackedArray.of(test == known(experiment.task.test)),
        test_agrees=None if test is None else PackedArray.of(test == top),
        queries=0 if use.teacher is None else result.charged,
        gradient_queries=0 if use.teacher is None else result.estimated,
        repeated_labels=result.repeats,
        diverged=result.diverged,
        decoded=result.decoded,
        network_parameters=result.network_parameters,
        seconds=result.seconds,
        step_seconds=result.step_seconds,
    )


def _labelled(pool: Pool) -> float:
    return len(pool.labelled) / len(pool) if len(pool) else 0.0
