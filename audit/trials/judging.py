"""Judge attacks on fresh seeds, look by look: seeds are added to what is still open, until a word is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.execution.bench import Bench
from audit.plan.cells import Cell, Use
from audit.statistics import verdict
from audit.statistics.sequential import looks, schedule
from audit.statistics.verdict import Finding
from audit.trials import protocol
from audit.trials.protocol import Chosen, Setup, Side, set_aside, sound
from teachers.targets.target import Subject
from teachers.task import known


@dataclass(frozen=True)
class Case:
    """An attack to be judged on a side's student."""

    side: Side
    chosen: Chosen
    plan: tuple[int, ...]  # seeds at every look that it may get

    @property
    def name(self) -> str:
        """The attack and its student."""
        return f"{self.chosen.attack.name} on {self.side.setup.recipe.architecture}"

    @property
    def taken(self) -> tuple[int, ...]:
        """Seeds at every look so far."""
        return self.side.looks.get(self.chosen.attack.name, ())

    def look(self) -> int:
        """Take the next look; return its seeds."""
        seeds = self.plan[len(self.taken)]
        self.side.looks[self.chosen.attack.name] = (*self.taken, seeds)
        return seeds


def judge(sides: Sequence[Side], bench: Bench, audited: Subject, ordinary: Subject, seen: Sequence[int] = ()) -> None:
    """Train judged students look by look, and what the first look is held against.

    `seen` are the numbers of seeds at which earlier audits looked at this question: these looks spent error, too.
    """
    fixed = [use for side in sides for use in beside(side, bench, ordinary)]
    every = open_ = cases(sides, bench, audited, seen)
    for number in range(1, 1 + max((len(case.plan) for case in open_), default=1)):
        uses = [use for case in open_ for use in _uses(case, audited, case.look())]
        bench.train("judging" if number == 1 else f"judging, look {number}", uses + fixed)
        fixed = []
        names = verdict.undecided([finding(case, bench, audited) for case in every])
        open_ = [case for case in every if case.name in names and len(case.taken) < len(case.plan)]
    cheaper = [
        use
        for side in sides
        for subject in {s.role: s for s in (audited, ordinary)}.values()
        for chosen in side.settled[subject.role].values()
        for use in protocol.cost_uses(side.setup, bench, chosen, subject)
    ]
    bench.train("smaller budgets", cheaper)


def cases(sides: Sequence[Side], bench: Bench, audited: Subject, seen: Sequence[int]) -> list[Case]:
    """Return the attacks to judge: those that are not their own control."""
    found = []
    for side in sides:
        for chosen in side.settled["audited"].values():
            first = protocol.first_seeds(side.setup, type(chosen.attack), side.setup.seeds)
            if set_aside(side.setup, bench, audited, chosen) is None:
                found.append(Case(side, chosen, schedule(first, side.setup.most, seen)))
    return found


def finding(case: Case, bench: Bench, audited: Subject) -> Finding:
    """Compare an attack's students so far with their controls; a case without a look was not judged."""
    setup = case.side.setup
    knockoffs, students = protocol.judged_cells(setup, case.chosen, audited, case.taken[-1])
    if not sound(bench, [*knockoffs, *students]):
        return Finding(attack=case.name, status="failed")
    compared = looks(correct(setup, bench, knockoffs), correct(setup, bench, students), case.taken)
    return Finding(attack=case.name, status="judged", looks=compared)


def correct(setup: Setup, bench: Bench, cells: Sequence[Cell]) -> NDArray[np.bool_]:
    """Return what students got right of the judged test images, (S, N)."""
    results = (bench.results[cell.key].test for cell in cells)
    answers = np.stack([packed.array() for packed in results if packed is not None])
    right: NDArray[np.bool_] = answers == known(setup.task.test)
    return right[:, setup.judged_images]


def _uses(case: Case, audited: Subject, seeds: int) -> list[Use]:
    knockoffs, students = protocol.judged_cells(case.side.setup, case.chosen, audited, seeds)
    controls = [Use(c, "judge", None, "control") for c in students]
    return controls + [Use(c, "judge", "audited", "attack") for c in knockoffs]


def beside(side: Side, bench: Bench, ordinary: Subject) -> list[Use]:
    """Return the students of the null control, of the no-victim baselines, and of what shows whether attacks bite."""
    setup, uses = side.setup, []
    one, other = protocol.null_cells(setup, protocol.best_ls(setup, bench))
    uses += [Use(c, "judge", None, "control") for c in one] + [Use(c, "null", None, "control") for c in other]
    for baseline in protocol.baselines(setup, bench):
        uses += [Use(c, "judge", None, "control") for c in protocol.baseline_cells(setup, baseline, setup.seeds)]
    for chosen in side.settled[ordinary.role].values():
        uses += protocol.bite_uses(setup, bench, chosen, ordinary)
    return uses
