"""The design's arms as cells, and what validation chooses among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attacks.base import Attack, Technique
from attacks.controls.ls import LS, SWEEP
from attacks.registry import CONTROLS, origin
from audit.analysis.results import Bits, ResultArrays, seen
from audit.execution.runner import TrialRunner
from audit.plan.cells import ENGINE, Cell, Failure, Use
from audit.plan.design import (
    TRUTHS,
    Arm,
    Attacks,
    Design,
    OwnTeacher,
    Pair,
    Pairs,
    TeacherRole,
    labels_only,
    own_teacher_of,
)
from audit.plan.measures import REPEATS
from audit.plan.suite import Suite
from audit.statistics.image_groups import Units
from reports.record import Regime
from teachers.names import HOME_MADE, TWIN, truth_digest
from teachers.surface import FULL, Surface
from teachers.targets import questions
from teachers.targets.home import home_made, twin
from teachers.targets.isolation import Targets, both
from teachers.targets.runtime import Runtime
from teachers.targets.target import Target, smoothed_truths
from teachers.task import Pool, Task, known
from teachers.training import Recipe
from teachers.views import ViewSet


@dataclass(frozen=True)
class Experiment:
    """What all cells of an audit share."""

    suite: Suite
    task: Task
    pool: Pool  # what the attacker holds of the task
    tenth: Pool  # the same with a tenth of its labels
    nothing: Pool  # what an attacker without original data holds of it
    surrogate: Pool
    recipe: Recipe
    students: tuple[str, ...]  # architectures; the recipe has one of them
    most: int  # judged seeds, at the last look
    budget: int | None
    device: str
    dropped: tuple[str, ...] = ()  # classes of which the attacker never saw an image
    presets: Mapping[str, Attack] = field(default_factory=dict)  # by attack: a named setting in place of tuning
    groups: NDArray[np.uint32] | None = None  # of each test image, (N,)

    @property
    def seeds(self) -> int:
        """Judged seeds at the first look."""
        return min(self.suite.seeds, self.most)

    @cached_property
    def truths(self) -> dict[float, Target]:
        """Teachers that know the smoothed labels of the attacker's images and nothing else, by ε."""
        classes, views = len(self.task.classes), self.recipe.views
        return smoothed_truths(self.pool, classes, views, self.device, TRUTHS)

    def twins(self, targets: Mapping[TeacherRole, Target], runtime: Runtime) -> list[Target]:
        """Return the twins that an attacker trains on their own images, of every student architecture."""
        shown, numbers = _surface(TWIN, targets), range(max(self.most, self.suite.tuning_seeds))
        return [twin(self.task, self.pool, name, i, shown, runtime) for name in self.students for i in numbers]

    def home_made(self, targets: Mapping[TeacherRole, Target], runtime: Runtime) -> list[Target]:
        """Return the ordinary teacher of the attacker's own images; none where it is the ordinary one itself."""
        return [] if self.whole else [home_made(self.task, self.pool, _surface(HOME_MADE, targets), runtime)]

    @property
    def whole(self) -> bool:
        """Whether the attacker holds everything that the ordinary teacher was trained on."""
        return self.pool.digest == self.task.train.digest

    @property
    def unseen(self) -> tuple[int, ...]:
        """Classes of which the attacker never saw an image, by index."""
        return tuple(self.task.classes.index(name) for name in self.dropped)

    @property
    def judged(self) -> int:
        """Number of test images that the verdict rests on."""
        return int(seen(known(self.task.test), self.unseen).sum())

    @property
    def independent(self) -> float | None:
        """Effective number of groups of judged test images; None where every image is on its own."""
        if self.groups is None:
            return None
        return Units(self.judged, self.groups[seen(known(self.task.test), self.unseen)]).independent

    def design(self, offered: Mapping[TeacherRole, Attacks]) -> Design:
        """Return which students an audit trains of this architecture."""
        settings = self.suite.settings
        return Design(
            suite=self.suite,
            recipe=self.recipe,
            seeds=self.seeds,
            most=self.most,
            ls=tuple(LS(smoothing=smoothing) for smoothing in SWEEP[:settings]),
            baselines=tuple(CONTROLS[name].grid()[:settings] for name in self.suite.controls),
            attacks=offered,
            presets=self.presets,
            whole=self.whole,
        )

    def cells(self, arm: Arm, targets: Mapping[TeacherRole, Target]) -> list[Cell]:
        """Name the students of an arm."""
        target = targets[arm.teacher] if arm.teacher else None
        changes: dict[str, Any] = {"recipe": arm.recipe.settings, "splits": arm.splits}
        if isinstance(arm.target, float):
            truth = truth_digest(self.pool.digest, self.recipe.views, arm.target)
            changes |= {"teacher": truth, "surface": FULL.name, "budget": None}  # who asks oneself pays nothing
        if arm.own is not None:
            changes |= {"surface": _surface(arm.own, targets).name, "budget": None}
        changes |= {"pool": self.tenth.digest} if arm.tenth else {}
        changes |= {} if arm.budget is None else {"budget": arm.budget}
        cells = [self.cell(arm.technique, seed, target, **changes) for seed in arm.seeds]
        if arm.own is None:
            return cells
        return [cell.model_copy(update={"teacher": own_teacher_of(cell, arm.own)}) for cell in cells]

    def keys(self, arm: Arm, targets: Mapping[TeacherRole, Target]) -> tuple[str, ...]:
        """Return the keys of an arm's students."""
        return tuple(cell.key for cell in self.cells(arm, targets))

    def cell(self, technique: Technique, seed: int, target: Target | None, **changes: Any) -> Cell:
        """Name one student."""
        held = getattr(technique, "holds", "original")
        pool = self.pool if held == "original" else self.nothing
        base = Cell(
            engine=ENGINE,
            technique=technique.name,
            version=f"{technique.version} {origin(type(technique))}".strip(),
            parameters=technique.parameters,
            recipe=self.recipe.settings,
            seed=seed,
            pool=pool.digest,
            task=self.task.digest,
            surrogate=self.surrogate.digest if held == "surrogate" else None,
            teacher=None if target is None else target.fingerprint,
            surface=None if target is None else target.surface.name,
            budget=None if target is None else self.budget,
            device=self.device,
        )
        return base.model_copy(update=changes)


@dataclass(frozen=True)
class StudentTrials:
    """The students of one architecture: what they are trained for, and the choices that their results make."""

    experiment: Experiment
    design: Design
    runner: TrialRunner
    targets: Mapping[TeacherRole, Target]
    looks: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by attack: judged seeds at each look so far
    _students: dict[Arm, tuple[list[Cell], tuple[str, ...]]] = field(default_factory=dict)  # cells and keys of arms
    _scores: dict[tuple[str, ...], float] = field(default_factory=dict)  # by keys

    @cached_property
    def pairs(self) -> Pairs:
        """What tuning settled on, once it is over."""
        return self.design.pairs(self)

    def train(self, phase: str, arms: Sequence[Arm]) -> None:
        """Train some arms."""
        self.runner.train(phase, self.uses(arms))

    def tune(self, phase: str, arms: Sequence[Arm]) -> None:
        """Train settings on their first seed, and those that may be chosen on all of their seeds."""
        self.train(phase, self.design.heats(arms))
        self.train(phase, self.design.finals(self, arms))

    def uses(self, arms: Sequence[Arm]) -> list[Use]:
        """Return what the runner is asked for."""
        return [
            Use(cell, arm.role, arm.teacher, "attack" if arm.teacher else "control")
            for arm in arms
            for cell in self.cells(arm)
        ]

    def cells(self, arm: Arm) -> list[Cell]:
        """Name the students of an arm."""
        return self._named(arm)[0]

    def keys(self, arm: Arm) -> tuple[str, ...]:
        """Return the keys of an arm's students."""
        return self._named(arm)[1]

    def _named(self, arm: Arm) -> tuple[list[Cell], tuple[str, ...]]:
        one = replace(arm, chosen_from=())
        if one not in self._students:
            cells = self.experiment.cells(one, self.targets)
            self._students[one] = cells, tuple(cell.key for cell in cells)
        return self._students[one]

    def best(self, arms: tuple[Arm, ...]) -> Arm | None:
        """Return what is best on validation; None if a student of any failed."""
        if not arms or self.failure(*arms) is not None:
            return None
        left = self.design.finals(self, arms)
        return left[0] if len(left) == 1 else max(left, key=self.score)

    def leaders(self, race: tuple[Arm, ...], number: int) -> tuple[Arm, ...]:
        """Return so many of these settings, the best on their first seed; none if a student failed."""
        if self.failure(*race) is not None:
            return ()
        best = sorted(race, key=lambda arm: self.score(replace(arm, seeds=arm.seeds[:1])), reverse=True)[:number]
        return tuple(arm for arm in race if arm in best)

    @cached_property
    def arrays(self) -> ResultArrays:
        """What students classify correctly."""
        labels, validation = known(self.experiment.task.test), known(self.experiment.task.validation)
        results = self.runner.results

        def on_test(students: Sequence[str]) -> Bits:
            return np.stack([packed.array() == labels for key in students if (packed := results[key].test) is not None])

        def on_validation(students: Sequence[str]) -> Bits:
            found = (results[key] for key in students)
            return np.stack([(one.validation.array() == validation) & (not one.diverged) for one in found])

        own = self.experiment
        return ResultArrays(labels, validation, own.unseen, on_test, on_validation, image_groups=own.groups)

    def score(self, arm: Arm) -> float:
        """Return the validation accuracy of an arm's students."""
        keys = self.keys(arm)
        if keys not in self._scores:
            self._scores[keys] = float(self.arrays.tuning(keys).mean(1).mean())
        return self._scores[keys]

    def regime(self, arm: Arm) -> Regime | None:
        """Return what `fit` saw of a setting; None if it failed."""
        results = self.runner.found(self.keys(arm)[:1])
        return None if results is None else results[0].regime

    def queries(self, arm: Arm) -> int | None:
        """Return the largest number of queries of an arm's students; None until they are trained, and if one failed."""
        there = all(map(self.runner.known, self.keys(arm)))
        results = self.runner.found(self.keys(arm)) if there else None
        return None if results is None else max(r.charged for r in results)

    def failure(self, *arms: Arm) -> Failure | None:
        """Return the first failure among the students of some arms, if any."""
        return self.runner.failure([key for arm in arms for key in self.keys(arm)])

    def sound(self, *arms: Arm) -> bool:
        """Whether students were trained, and none of them diverged."""
        results = self.runner.found([key for arm in arms for key in self.keys(arm)])
        return results is not None and not any(r.diverged for r in results)

    def set_aside(self, pair: Pair) -> str | None:
        """Return why an attack on the audited teacher is its own control, or None."""
        knockoff, control = self.design.judged(pair, 1)
        if self.keys(knockoff) == self.keys(control):
            return "the teacher answers with smoothed labels"
        pool = self.experiment.pool
        if not labels_only(pair.knockoff.attack) or len(pool.labelled) < len(pool):
            return None
        results = self.runner.found(self.keys(pair.knockoff)) or []
        repeats = [r.repeats for r in results if r.repeats is not None and r.regime.view in ("raw", "crop")]
        share = np.mean(repeats) if repeats else 0.0
        return f"the teacher repeats {share:.2%} of the labels" if share >= REPEATS else None


def trials(
    experiment: Experiment, runner: TrialRunner, targets: Mapping[TeacherRole, Target], attacks: Attacks
) -> StudentTrials:
    """Return the trials of an audit before the first student is trained."""
    return StudentTrials(experiment, experiment.design(offered(targets, attacks)), runner, targets)


def by_role(targets: Targets) -> dict[TeacherRole, Target]:
    """Return the teachers to attack; the ordinary one is the last."""
    return {target.role: target for target in both(targets)}


def asked_ahead(target: Target, attacks: Attacks, experiment: Experiment) -> list[ViewSet]:
    """Return the views of the attacker's images that a teacher is asked about before anything is trained, in order.

    No more than students use: none where the budget does not pay for one of each image.
    """
    found = questions.declared(
        declared(target, attacks), experiment.recipe.views, len(experiment.pool), experiment.budget
    )
    return [ViewSet(kind, count) for kind, count in found.items()]  # type: ignore[arg-type]  # it checks


def declared(target: Target, attacks: Attacks) -> list[str]:
    """Return the kinds of views, some joined by +, that attacks which a teacher's surface allows say they ask about."""
    offered_ = (a for a in attacks.values() if a.holds == "original" and target.surface.offers(a.needs))
    return sorted({attack.views for attack in offered_ if attack.views})


def offered(targets: Mapping[TeacherRole, Target], attacks: Attacks) -> dict[TeacherRole, Attacks]:
    """Return the attacks that each teacher's surface allows, by its role."""
    return {r: {n: a for n, a in attacks.items() if t.surface.offers(a.needs)} for r, t in targets.items()}


def _surface(own: OwnTeacher, targets: Mapping[TeacherRole, Target]) -> Surface:
    """Return what an attacker's own teacher shows: a twin what the audited one does, a home-made what the ordinary."""
    return targets["audited"].surface if own == TWIN else [*targets.values()][-1].surface
