"""Judge attacks on fresh seeds, look by look: seeds are added to what is still open, until a word is sure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from audit.execution.runner import TrialRunner
from audit.plan.design import Arm, Pair
from audit.statistics import verdict
from audit.statistics.sequential import schedule
from audit.statistics.verdict import Finding
from audit.trials.protocol import StudentTrials
from reports.record import Over


@dataclass(frozen=True)
class SequentialTest:
    """An attack to be judged on a side's student."""

    trials: StudentTrials
    pair: Pair
    plan: tuple[int, ...]  # seeds at every look that it may get

    @property
    def name(self) -> str:
        """The attack and its student."""
        return f"{self.attack} on {self.trials.experiment.recipe.architecture}"

    @property
    def attack(self) -> str:
        """The attack's name."""
        return self.pair.knockoff.name

    @property
    def taken(self) -> tuple[int, ...]:
        """Seeds at every look so far."""
        return self.trials.looks.get(self.attack, ())

    @property
    def judged(self) -> Pair:
        """The students of the last look."""
        return self.trials.design.judged(self.pair, self.taken[-1])

    def look(self) -> list[Arm]:
        """Take the next look; return its students."""
        self.trials.looks[self.attack] = (*self.taken, self.plan[len(self.taken)])
        return self.trials.design.at_look(self.trials, self.pair, self.taken[-1])

    @property
    def rivals(self) -> dict[Over, Arm]:
        """The students of the last look that only a gain from the teacher can beat."""
        found = self.trials.design.rivals(self.trials, self.pair)
        return {over: arm.on("judge", self.taken[-1]) for over, arm in found.items()}


def judge(
    students: Sequence[StudentTrials],
    runner: TrialRunner,
    seen: Sequence[int] = (),
    delta: float = verdict.DELTA,
    planned: Collection[str] = (),
    alpha: float = verdict.ALPHA,
    *,
    outsiders: bool = False,
) -> list[Finding]:
    """Train judged students look by look, and what the first look is held against; return what was found.

    `seen` are the numbers of seeds at which earlier audits looked at this question: these looks spent error, too.
    `delta`: the tolerance, a fraction. `planned`: attacks that run later. `alpha`: the error of a
    word. `outsiders`: whether attacks without original images are judged by their gain over the largest class. Looks
    that were taken before go on.
    """
    fixed = [use for one in students for use in one.uses(one.design.beside(one, one.pairs))]
    every = cases(students, seen)
    later = [_planned(one, name) for one in students for name in planned]
    open_ = [case for case in every if not case.taken]
    runner.train("judging", [*(use for case in open_ for use in case.trials.uses(case.look())), *fixed])
    while True:
        found = [*(finding(case, outsiders=outsiders) for case in every), *later]
        names = verdict.undecided(found, delta, alpha)
        open_ = [case for case in every if case.name in names and len(case.taken) < len(case.plan)]
        if not open_:
            break
        number = 1 + max(len(case.taken) for case in open_)
        runner.train(f"judging, look {number}", [use for case in open_ for use in case.trials.uses(case.look())])
    cheaper = [use for one in students for use in one.uses(one.design.cheaper(one, one.pairs))]
    runner.train("smaller budgets", cheaper)
    return found


def _planned(trials: StudentTrials, name: str) -> Finding:
    student, suite = trials.experiment.recipe.architecture, trials.experiment.suite
    return Finding(attack=f"{name} on {student}", status="planned", listed=name in suite.attacks)


def cases(students: Sequence[StudentTrials], seen: Sequence[int]) -> list[SequentialTest]:
    """Return the attacks to judge: those that are not their own control."""
    return [
        SequentialTest(one, pair, schedule(design.first_seeds(pair.knockoff.attack, design.seeds), design.most, seen))
        for one in students
        for design in [one.design]
        for pair in one.pairs["audited"].values()
        if one.set_aside(pair) is None
    ]


def finding(case: SequentialTest, *, outsiders: bool = False) -> Finding:
    """Compare an attack's students so far with their controls; a case without a look was not judged."""
    trials, rivals = case.trials, case.rivals
    if not trials.sound(*case.judged, *rivals.values()):
        return Finding(attack=case.name, status="failed")
    mine, controls = map(trials.keys, case.judged)
    bare = outsiders and case.pair.knockoff.attack.holds != "original"
    looks = trials.arrays.over_largest(mine, case.taken) if bare else trials.arrays.margins(mine, controls, case.taken)
    return Finding(
        attack=case.name,
        status="judged",
        looks=looks,
        rivals={over: trials.arrays.margins(mine, trials.keys(arm), case.taken) for over, arm in rivals.items()},
        same=trials.arrays.same(mine, controls),
        listed=case.attack in trials.experiment.suite.attacks,
    )
