"""How many students an audit trains, phase by phase, before any of them is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from attacks.base import Attack, Technique
from attacks.controls.ls import LS
from attacks.registry import CONTROLS, find
from audit.plan.cells import Use
from audit.plan.suite import LONGER, cost_shares
from audit.trials import protocol
from audit.trials.protocol import Attacks, Experiment
from teachers.targets.target import Target


@dataclass(frozen=True)
class Work:
    """Students of one technique: `least` where everything is settled at the first look, `most` where nothing is."""

    technique: type[Technique]
    least: int
    most: int
    teacher: str | None = None  # role of the one that they ask
    length: float = 1.0  # of a student: times the usual steps, or the usual queries


@dataclass(frozen=True)
class Phase:
    """What is trained together."""

    name: str
    work: tuple[Work, ...]
    eval_splits: tuple[str, ...]  # splits that its students answer

    @property
    def least(self) -> int:
        """Students, at least."""
        return sum(work.least for work in self.work)

    @property
    def most(self) -> int:
        """Students, at most."""
        return sum(work.most for work in self.work)


def tuning_uses(experiment: Experiment, teachers: Sequence[Target], offered: Mapping[str, Attacks]) -> list[Use]:
    """Return the students that attacks and controls are tuned with, whose number is known before."""
    uses = protocol.candidate_uses(experiment, protocol.sweep(experiment)) + protocol.baseline_uses(experiment)
    for target in teachers:
        uses += protocol.tuning_uses(experiment, target, offered[target.role])
    return uses


def tuning(uses: Sequence[Use]) -> Phase:
    """Return the phase of some students that are each trained once."""
    counts: dict[tuple[str, str | None], int] = {}
    for use in {use.cell.key: use for use in uses}.values():
        kind = use.cell.technique, use.teacher
        counts[kind] = counts.get(kind, 0) + 1
    return Phase("tuning", tuple(Work(find(t), n, n, who) for (t, who), n in counts.items()), ("validation",))


def later(experiment: Experiment, offered: Mapping[str, Attacks]) -> list[Phase]:
    """Return the phases after tuning, for the attacks on each teacher by its role.

    What tuning settles on decides how many controls attacks share: with one another, or with none.
    """
    both = ("validation", "test")
    phases = [
        Phase("matching controls", tuple(_matching(experiment, offered)), ("validation",)),
        Phase("twice the steps", tuple(_longer(experiment, offered["audited"])), ("validation",)),
        Phase("judging", tuple(_judging(experiment, offered["audited"])), both),
        Phase("biting the ordinary teacher", tuple(_biting(experiment, offered)), both),
        Phase("smaller budgets", tuple(_cheaper(experiment, offered)), both),
    ]
    return [phase for phase in phases if phase.most]


def _matching(experiment: Experiment, offered: Mapping[str, Attacks]) -> Iterator[Work]:
    """Every other kind of view needs LS students, and every attack on probabilities its own on smoothed labels."""
    seeds, attacks = experiment.suite.tuning_seeds, list(_original(offered["audited"]))
    kinds = {attack.views for attack in attacks} - {None, "crop"}
    sweep = len(protocol.sweep(experiment)) * seeds
    yield Work(LS, len(kinds) * sweep, max(len(kinds), len(attacks)) * sweep)
    for attack in attacks:
        if attack.needs == "probs":
            yield Work(attack, seeds, seeds * len(offered))


def _longer(experiment: Experiment, attacks: Attacks) -> Iterator[Work]:
    seeds, original = experiment.suite.tuning_seeds, list(_original(attacks))
    if seeds > 1 and original:
        yield Work(LS, seeds, seeds, length=LONGER)
        yield Work(original[0], seeds, seeds, "audited", length=LONGER)


def _judging(experiment: Experiment, attacks: Attacks) -> Iterator[Work]:
    first, most = experiment.seeds, experiment.most
    yield Work(LS, 2 * first, first + most)  # and those of the null control
    for name in experiment.suite.controls:
        yield Work(CONTROLS[name], first, first)
    for attack in attacks.values():
        # A label-only attack is set aside where the teacher repeats the labels.
        least = 0 if protocol.labels_only(attack) else protocol.first_seeds(experiment, attack, first)
        yield Work(attack, least, most, "audited")
        if attack.holds == "original" and attack.needs == "probs":
            yield Work(attack, 0, most)


def _biting(experiment: Experiment, offered: Mapping[str, Attacks]) -> Iterator[Work]:
    """Where the audited teacher is the ordinary one, its judged students show whether an attack bites."""
    seeds = experiment.suite.bite_seeds
    *_, role = offered
    for attack in offered[role].values():
        if protocol.labels_only(attack):
            yield Work(attack, seeds, seeds, role)
            yield Work(LS, 0, seeds)
        elif attack.holds == "original" and role != "audited":
            yield Work(attack, seeds, seeds, role)
            yield Work(attack, 0, seeds)


def _cheaper(experiment: Experiment, offered: Mapping[str, Attacks]) -> Iterator[Work]:
    """A point of a steal-cost curve is at an attack's own budget; of the audited teacher it was judged already."""
    for role, attacks in offered.items():
        points = cost_shares(experiment.suite.budgets)[: -1 if role == "audited" else None]
        for attack in attacks.values():
            if attack.holds != "original":
                seeds = protocol.first_seeds(experiment, attack, experiment.suite.bite_seeds)
                yield from (Work(attack, seeds, seeds, role, length=share) for share in points)


def _original(attacks: Attacks) -> Iterator[type[Attack]]:
    return (attack for attack in attacks.values() if attack.holds == "original")
