"""From trained cells to the students and rows of a record; every number of them follows in `audit.analysis.derive`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from attacks.base import Attack
from audit.execution.runner import TrialRunner
from audit.plan import suite
from audit.plan.cells import Cell, Use, planned
from audit.recording.teacher import Predictions
from audit.trials import protocol
from audit.trials.protocol import (
    Baseline,
    ControlCandidate,
    Experiment,
    StudentArm,
    TunedAttack,
    _keys,
    set_aside,
    sound,
)
from reports.record import UNMEASURED, Bite, Comparison, Cost, PackedArray, Trial
from teachers.targets.target import Target
from teachers.task import Pool, known


@dataclass(frozen=True)
class ComparisonBuilder:
    """Names the students that each row compares."""

    arm: StudentArm
    runner: TrialRunner
    audited: Target
    ordinary: Target

    @property
    def experiment(self) -> Experiment:
        """What the side's cells share."""
        return self.arm.experiment

    @cached_property
    def baselines(self) -> list[Baseline]:
        """The students without a teacher, the LS student with the plain recipe first."""
        return protocol.baselines(self.experiment, self.runner)

    def attack(self, attack: type[Attack]) -> Comparison:
        """Return one attack's row: its knockoff students and their LS students, or why there are none."""
        surface, runner = self.audited.surface, self.runner
        on_ordinary = self.arm.settled[self.ordinary.role].get(attack.name)
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
        mine = self.arm.settled[self.audited.role].get(attack.name)
        if mine is None:
            return self._failed(row, attack)
        row = row.model_copy(update=_settings(mine))
        identical = set_aside(self.experiment, runner, self.audited, mine)
        if identical is not None:
            return _aside(row, "identical", identical)
        looks = self.arm.looks[attack.name]
        knockoffs, students = protocol.judged_cells(self.experiment, mine, self.audited, looks[-1])
        if not sound(runner, knockoffs) or runner.found(students) is None:
            return self._failed(row, attack, knockoffs)
        curve = () if attack.holds == "original" else self._curve(mine, self.audited)
        return row.model_copy(
            update={
                "looks": looks,
                "students": _keys(knockoffs),
                "control_students": _keys(students),
                "curve": curve,
                **self._baseline(mine, looks[0]),
            }
        )

    def controls(self) -> list[Comparison]:
        """Return the rows of the null control and of the no-victim baselines."""
        ls, *others = self.baselines
        return [
            self._null(protocol.best_ls(self.experiment, self.runner)),
            *(self._control(base, ls) for base in others),
        ]

    def _null(self, ls: ControlCandidate) -> Comparison:
        """Return the row of LS students against LS students of other seeds, paired as attacks are."""
        cells, others = protocol.null_cells(self.experiment, ls)
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
            students=_keys(others),
            control_students=_keys(cells),
        )

    def _control(self, baseline: Baseline, ls: Baseline) -> Comparison:
        """Return the row of a no-victim baseline against the LS student; outside the verdict."""
        mine, theirs = (protocol.baseline_cells(self.experiment, b, self.experiment.seeds) for b in (baseline, ls))
        control = baseline.control
        row = Comparison(
            attack=control.name,
            student=self.experiment.recipe.architecture,
            title=control.title,
            paper=control.paper,
            holds="original",
            needs="label",
            status="judged",
            parameters=control.parameters,
            tuned_over=baseline.tuned_over,
            control=ls.control.name,
            control_parameters=ls.control.parameters,
        )
        if not sound(self.runner, [*mine, *theirs]):
            return _aside(row, "failed", "a student diverged (NaN)")
        return row.model_copy(update={"students": _keys(mine), "control_students": _keys(theirs)})

    def _baseline(self, tuned: TunedAttack, seeds: int) -> dict[str, object]:
        """Return the attacker's best alternative without the teacher, as validation ranks them.

        That is the attack's own LS student where no other baseline is better.
        """
        best = max(self.baselines, key=lambda baseline: baseline.score)
        if best.score <= protocol.candidate_score(self.experiment, self.runner, tuned.control):
            cells = protocol.candidate_cells(self.experiment, tuned.control, range(seeds))
            return {"baseline": tuned.control.name, "baseline_students": _keys(cells)}
        cells = protocol.baseline_cells(self.experiment, best, seeds)
        return {"baseline": best.control.name, "baseline_students": _keys(cells)} if sound(self.runner, cells) else {}

    def _bite(self, tuned: TunedAttack) -> Bite | None:
        """Return what shows whether an attack beats the baseline of its own threat model on the ordinary teacher."""
        experiment = self.experiment
        measured = Bite(baseline="LS student", bites=False, margin=UNMEASURED)
        if tuned.attack.holds != "original":
            points = self._curve(tuned, self.ordinary)
            baseline = "the largest class, and rising with the budget"
            update = {"baseline": baseline, "students": points[-1].students if points else (), "curve": points}
            return measured.model_copy(update=update) if len(points) > 1 else None
        attack, control = protocol.judged_cells(experiment, tuned, self.ordinary, experiment.suite.bite_seeds)
        if protocol.labels_only(type(tuned.attack)):
            attack, control = protocol.label_bite_cells(experiment, tuned, self.ordinary)
            baseline = f"LS student on {protocol.TENTH:.0%} of the labels, the other images asked"
            measured = measured.model_copy(update={"baseline": baseline})
        if not sound(self.runner, [*attack, *control]):
            return None
        return measured.model_copy(update={"students": _keys(attack), "control_students": _keys(control)})

    def _curve(self, tuned: TunedAttack, target: Target) -> tuple[Cost, ...]:
        """Return the students of a steal-cost curve; nothing where one of them failed or diverged."""
        points = protocol.cost_cells(self.experiment, self.runner, tuned, target)
        if not all(sound(self.runner, cells) for cells in points):
            return ()
        return tuple(Cost(queries=0, accuracy=UNMEASURED, agreement=0, students=_keys(cells)) for cells in points)

    def _failed(self, row: Comparison, attack: type[Attack], cells: Sequence[Cell] = ()) -> Comparison:
        experiment = self.experiment
        tried = protocol.settings(experiment, attack)
        tuning = [c for s in tried for c in protocol.tuning_cells(experiment, s, self.audited)]
        beside = [c for s in tried for c in protocol.candidates_tuned(experiment, self.runner, self.audited, s)]
        failure = self.runner.failure([*tuning, *cells, *beside])
        return _aside(row, "failed", "a student diverged (NaN)" if failure is None else failure.sentence)


def _settings(tuned: TunedAttack) -> dict[str, object]:
    return {
        "parameters": tuned.attack.parameters,
        "tuned_over": tuned.tuned_over,
        "control": tuned.control.name,
        "control_parameters": tuned.control.technique.parameters,
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
