"""Judge attacks on fresh seeds, look by look: seeds are added to what is still open, until a word is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.execution.runner import TrialRunner
from audit.plan.cells import Cell, Use
from audit.statistics import verdict
from audit.statistics.sequential import looks, schedule
from audit.statistics.verdict import Finding
from audit.trials import protocol
from audit.trials.protocol import Experiment, StudentArm, TunedAttack, set_aside, sound
from teachers.targets.target import Target
from teachers.task import known


@dataclass(frozen=True)
class SequentialTest:
    """An attack to be judged on a side's student."""

    arm: StudentArm
    tuned: TunedAttack
    plan: tuple[int, ...]  # seeds at every look that it may get

    @property
    def name(self) -> str:
        """The attack and its student."""
        return f"{self.tuned.attack.name} on {self.arm.experiment.recipe.architecture}"

    @property
    def taken(self) -> tuple[int, ...]:
        """Seeds at every look so far."""
        return self.arm.looks.get(self.tuned.attack.name, ())

    def look(self) -> int:
        """Take the next look; return its seeds."""
        seeds = self.plan[len(self.taken)]
        self.arm.looks[self.tuned.attack.name] = (*self.taken, seeds)
        return seeds


def judge(
    arms: Sequence[StudentArm], runner: TrialRunner, audited: Target, ordinary: Target, seen: Sequence[int] = ()
) -> None:
    """Train judged students look by look, and what the first look is held against.

    `seen` are the numbers of seeds at which earlier audits looked at this question: these looks spent error, too.
    """
    fixed = [use for arm in arms for use in beside(arm, runner, ordinary)]
    every = open_ = cases(arms, runner, audited, seen)
    for number in range(1, 1 + max((len(case.plan) for case in open_), default=1)):
        uses = [use for case in open_ for use in _uses(case, audited, case.look())]
        runner.train("judging" if number == 1 else f"judging, look {number}", uses + fixed)
        fixed = []
        names = verdict.undecided([finding(case, runner, audited) for case in every])
        open_ = [case for case in every if case.name in names and len(case.taken) < len(case.plan)]
    cheaper = [
        use
        for arm in arms
        for target in {s.role: s for s in (audited, ordinary)}.values()
        for tuned in arm.settled[target.role].values()
        for use in protocol.cost_uses(arm.experiment, runner, tuned, target)
    ]
    runner.train("smaller budgets", cheaper)


def cases(
    arms: Sequence[StudentArm], runner: TrialRunner, audited: Target, seen: Sequence[int]
) -> list[SequentialTest]:
    """Return the attacks to judge: those that are not their own control."""
    found = []
    for arm in arms:
        for tuned in arm.settled["audited"].values():
            first = protocol.first_seeds(arm.experiment, type(tuned.attack), arm.experiment.seeds)
            if set_aside(arm.experiment, runner, audited, tuned) is None:
                found.append(SequentialTest(arm, tuned, schedule(first, arm.experiment.most, seen)))
    return found


def finding(case: SequentialTest, runner: TrialRunner, audited: Target) -> Finding:
    """Compare an attack's students so far with their controls; a case without a look was not judged."""
    experiment = case.arm.experiment
    knockoffs, students = protocol.judged_cells(experiment, case.tuned, audited, case.taken[-1])
    if not sound(runner, [*knockoffs, *students]):
        return Finding(attack=case.name, status="failed")
    compared = looks(correct(experiment, runner, knockoffs), correct(experiment, runner, students), case.taken)
    return Finding(attack=case.name, status="judged", looks=compared)


def correct(experiment: Experiment, runner: TrialRunner, cells: Sequence[Cell]) -> NDArray[np.bool_]:
    """Return what students got right of the judged test images, (S, N)."""
    results = (runner.results[cell.key].test for cell in cells)
    answers = np.stack([packed.array() for packed in results if packed is not None])
    right: NDArray[np.bool_] = answers == known(experiment.task.test)
    return right[:, experiment.judged_images]


def _uses(case: SequentialTest, audited: Target, seeds: int) -> list[Use]:
    knockoffs, students = protocol.judged_cells(case.arm.experiment, case.tuned, audited, seeds)
    controls = [Use(c, "judge", None, "control") for c in students]
    return controls + [Use(c, "judge", "audited", "attack") for c in knockoffs]


def beside(arm: StudentArm, runner: TrialRunner, ordinary: Target) -> list[Use]:
    """Return the students of the null control, of the no-victim baselines, and of what shows whether attacks bite."""
    experiment, uses = arm.experiment, []
    one, other = protocol.null_cells(experiment, protocol.best_ls(experiment, runner))
    uses += [Use(c, "judge", None, "control") for c in one] + [Use(c, "null", None, "control") for c in other]
    for baseline in protocol.baselines(experiment, runner):
        uses += [
            Use(c, "judge", None, "control") for c in protocol.baseline_cells(experiment, baseline, experiment.seeds)
        ]
    for tuned in arm.settled[ordinary.role].values():
        uses += protocol.bite_uses(experiment, runner, tuned, ordinary)
    return uses
