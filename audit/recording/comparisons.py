"""From trained cells to the students and rows of a record; every number of them follows in `audit.analysis.derive`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from attacks.base import Attack
from audit.execution.runner import TrialRunner
from audit.plan import suite
from audit.plan.cells import Use, planned
from audit.plan.design import TENTH, Arm, Design, Pair, labels_only
from audit.recording.teacher import Predictions
from audit.trials.protocol import Experiment, StudentTrials
from reports.record import UNMEASURED, Bite, Comparison, Cost, PackedArray, Trial
from teachers.task import Pool, known


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
        surface = self.trials.targets["audited"].surface
        on_ordinary = self.trials.pairs[self.design.ordinary].get(attack.name)
        row = Comparison(
            attack=attack.name,
            student=self.experiment.recipe.architecture,
            title=attack.title,
            paper=attack.paper,
            holds=attack.holds,
            needs=attack.needs,
            status="judged",
            extra=attack.name not in self.experiment.suite.attacks,
            bite=None if on_ordinary is None else self._bite(on_ordinary),
        )
        if not surface.offers(attack.needs):
            return _aside(row, "not applicable", f"it needs {attack.needs}, the surface shows {surface.name}")
        mine = self.trials.pairs["audited"].get(attack.name)
        if mine is None:
            return self._failed(row, attack)
        row = row.model_copy(update=_settings(mine))
        identical = self.trials.set_aside(mine)
        if identical is not None:
            return _aside(row, "identical", identical)
        looks = self.trials.looks[attack.name]
        knockoffs, students = self.design.judged(mine, looks[-1])
        if not self.trials.sound(knockoffs) or self.trials.failure(students) is not None:
            return self._failed(row, attack, knockoffs)
        curve = () if attack.holds == "original" else self._curve(mine)
        return row.model_copy(
            update={
                "looks": looks,
                **self._students(knockoffs, students),
                "curve": curve,
                **self._baseline(mine.control, looks[0]),
            }
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
            parameters=ls.technique.parameters,
            control=ls.name,
            control_parameters=ls.technique.parameters,
            students=self.trials.keys(others),
            control_students=self.trials.keys(ls),
        )

    def _control(self, baseline: Arm, ls: Arm) -> Comparison:
        """Return the row of a no-victim baseline against the LS student; outside the verdict."""
        mine, theirs = (arm.on("judge", self.experiment.seeds) for arm in (baseline, ls))
        control = baseline.technique
        row = Comparison(
            attack=control.name,
            student=self.experiment.recipe.architecture,
            title=control.title,
            paper=control.paper,
            holds="original",
            needs="label",
            status="judged",
            parameters=control.parameters,
            tuned_over=len(baseline.chosen_from),
            control=ls.name,
            control_parameters=ls.technique.parameters,
        )
        if not self.trials.sound(mine, theirs):
            return _aside(row, "failed", "a student diverged (NaN)")
        return row.model_copy(update=self._students(mine, theirs))

    def _students(self, mine: Arm, theirs: Arm) -> dict[str, object]:
        return {"students": self.trials.keys(mine), "control_students": self.trials.keys(theirs)}

    def _baseline(self, control: Arm, seeds: int) -> dict[str, object]:
        """Return the attacker's best alternative without the teacher, as validation ranks them.

        That is the attack's own LS student where no other baseline is better.
        """
        best, trials = max(self.baselines, key=self.trials.score), self.trials
        if trials.score(best) <= trials.score(control):
            return {"baseline": control.name, "baseline_students": trials.keys(control.on("judge", seeds))}
        judged = best.on("judge", seeds)
        return {"baseline": best.name, "baseline_students": trials.keys(judged)} if trials.sound(judged) else {}

    def _bite(self, pair: Pair) -> Bite | None:
        """Return what shows whether an attack beats the baseline of its own threat model on the ordinary teacher."""
        measured = Bite(baseline="LS student", bites=False, margin=UNMEASURED)
        attack = pair.knockoff.attack
        if attack.holds != "original":
            points = self._curve(pair)
            baseline = "the largest class, and rising with the budget"
            update = {"baseline": baseline, "students": points[-1].students if points else (), "curve": points}
            return measured.model_copy(update=update) if len(points) > 1 else None
        if labels_only(attack):
            baseline = f"LS student on {TENTH:.0%} of the labels, the other images asked"
            measured = measured.model_copy(update={"baseline": baseline})
        positive = self.design.positive(pair)
        return measured.model_copy(update=self._students(*positive)) if self.trials.sound(*positive) else None

    def _curve(self, pair: Pair) -> tuple[Cost, ...]:
        """Return the students of a steal-cost curve; nothing where one of them failed or diverged."""
        points = self.design.curve(self.trials, pair)
        if not self.trials.sound(*points):
            return ()
        keys = map(self.trials.keys, points)
        return tuple(Cost(queries=0, accuracy=UNMEASURED, agreement=0, students=students) for students in keys)

    def _failed(self, row: Comparison, attack: type[Attack], *judged: Arm) -> Comparison:
        tried = self.design.settings(attack, "audited")
        controls = [arm for setting in tried for arm in self.design.controls(self.trials, setting)]
        failure = self.trials.failure(*tried, *judged, *controls)
        return _aside(row, "failed", "a student diverged (NaN)" if failure is None else failure.sentence)


def _settings(pair: Pair) -> dict[str, object]:
    return {
        "parameters": pair.knockoff.technique.parameters,
        "tuned_over": len(pair.knockoff.chosen_from),
        "control": pair.control.name,
        "control_parameters": pair.control.technique.parameters,
    }


def _aside(row: Comparison, status: str, reason: str) -> Comparison:
    return row.model_copy(update={"status": status, "reason": reason})


def trial(experiment: Experiment, runner: TrialRunner, use: Use, tops: dict[str, Predictions]) -> Trial:
    """Return what the record keeps of one student, image by image."""
    result = runner.results[use.cell.key]
    cell, test = result.cell, None if result.test is None else result.test.array()
    top = tops[use.teacher or "audited"].test
    return Trial(
        cell=cell.key,
        kind=use.kind,
        name=cell.technique,
        role=use.role,
        teacher=use.teacher,
        parameters=cell.parameters,
        student=str(cell.recipe["architecture"]),
        seed=cell.seed,
        labels=_labelled(runner.pools[cell.pool]),
        budget=cell.budget,
        regime=result.regime,
        planned=planned(cell),
        validated=PackedArray.of(result.validation.array() == known(experiment.task.validation)),
        correct=None if test is None else PackedArray.of(test == known(experiment.task.test)),
        agrees=None if test is None else PackedArray.of(test == top),
        charged=0 if use.teacher is None else result.charged,
        estimated=0 if use.teacher is None else result.estimated,
        repeats=result.repeats,
        diverged=result.diverged,
        network_parameters=result.network_parameters,
        seconds=result.seconds,
        step_seconds=result.step_seconds,
    )


def _labelled(pool: Pool) -> float:
    return len(pool.labelled) / len(pool) if len(pool) else 0.0
