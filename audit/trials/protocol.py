"""Tune, match, judge, bite: which students an audit trains, and which settings it settles on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attacks.base import Attack, Control, Technique
from attacks.controls.ls import LS, SWEEP
from attacks.registry import CONTROLS, origin
from audit.execution.runner import TrialRunner
from audit.plan.cells import SMOOTHED, Cell, Result, Role, Use
from audit.plan.measures import REPEATS
from audit.plan.suite import FIRST_NULL_SEED, FIRST_TUNING_SEED, LONGER, Suite, cost_shares
from reports.record import Regime
from teachers.targets.isolation import Targets, both
from teachers.targets.target import Target, smoothed_truth
from teachers.task import Pool, Task, known
from teachers.training import Recipe

TENTH = 0.1  # of the labels: the threat model in which label-only attacks must bite

Attacks = dict[str, type[Attack]]


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

    @property
    def seeds(self) -> int:
        """Judged seeds at the first look."""
        return min(self.suite.seeds, self.most)

    @cached_property
    def truth(self) -> Target:
        """A teacher that knows the smoothed labels of the attacker's images, and nothing else."""
        return smoothed_truth(self.pool, len(self.task.classes), self.recipe.views, self.device)

    @cached_property
    def tuning_images(self) -> NDArray[np.bool_]:
        """Which validation images settings are chosen on, (N,)."""
        return self._seen(known(self.task.validation))

    @cached_property
    def judged_images(self) -> NDArray[np.bool_]:
        """Which test images the verdict rests on: those of classes that the attacker has seen, (N,)."""
        return self._seen(known(self.task.test))

    def _seen(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        return ~np.isin(labels, [self.task.classes.index(name) for name in self.dropped])

    def cell(self, technique: Technique, seed: int, target: Target | None, **changes: Any) -> Cell:
        """Name one student."""
        held = getattr(technique, "holds", "original")
        pool = self.pool if held == "original" else self.nothing
        base = Cell(
            technique=technique.name,
            version=f"{technique.version} {origin(type(technique))}".strip(),
            parameters=technique.parameters,
            recipe=asdict(self.recipe),
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
class ControlCandidate:
    """Students without the teacher that an attack must beat: LS students, or the attack's own on smoothed labels.

    The LS student has the plain recipe or the attack's; the attack's own students have its loss, too.
    """

    technique: LS | Attack
    recipe: Recipe
    truth: Target | None = None  # what an attack asks: it knows the smoothed labels and nothing else

    @property
    def name(self) -> str:
        """What a report calls it."""
        return self.technique.name if self.truth is None else self.technique.name + SMOOTHED


@dataclass(frozen=True)
class TunedAttack:
    """What tuning settled on for one attack on one teacher."""

    attack: Attack
    control: ControlCandidate
    tuned_over: int


TunedAttacks = dict[str, dict[str, TunedAttack]]  # by role of the teacher, then by attack


@dataclass
class StudentArm:
    """One student architecture under attack: what its attacks are tuned to, and what they have come to."""

    experiment: Experiment
    settled: TunedAttacks
    looks: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by attack: judged seeds at each look so far


@dataclass(frozen=True)
class Baseline:
    """A no-victim baseline and the setting that tuning settled on; `score` is its accuracy on validation."""

    control: Control
    recipe: Recipe
    tuned_over: int
    score: float


def tuning_uses(experiment: Experiment, target: Target, attacks: Attacks) -> list[Use]:
    """Return the students that tune attacks on a teacher: also of a single setting where its regime must be known."""
    return [
        Use(cell, _role(cell, target), target.role, "attack")
        for attack in attacks.values()
        for setting in settings(experiment, attack)
        for cell in tuning_cells(experiment, setting, target)
        if attack.holds == "original" or len(settings(experiment, attack)) > 1
    ]


def _role(cell: Cell, target: Target) -> Role:
    if cell.splits == "validation":
        return "tune"
    return "judge" if target.role == "audited" else "bite"


def settings(experiment: Experiment, attack: type[Attack]) -> tuple[Attack, ...]:
    """Return the settings that an attack is tuned over: as many as the LS student, at most, or a preset alone."""
    preset = experiment.presets.get(attack.name)
    return attack.grid()[: experiment.suite.settings] if preset is None else (preset,)


def tuning_cells(experiment: Experiment, setting: Attack, target: Target) -> list[Cell]:
    """Return the students that a setting is chosen by; of a single one, the first judged one, for its regime."""
    if len(settings(experiment, type(setting))) == 1:
        return [experiment.cell(setting, 0, target)]
    return [experiment.cell(setting, seed, target, splits="validation") for seed in _tuning_seeds(experiment)]


def sweep(experiment: Experiment, regime: Regime | None = None) -> list[ControlCandidate]:
    """Return the smoothing sweep of the LS student, with the plain recipe or matched to an attack's regime."""
    recipe, view = experiment.recipe, "crop"
    if regime is not None:
        recipe, view = Recipe(**regime.recipe), regime.view  # type: ignore[arg-type]  # it was written from a recipe
    return [ControlCandidate(LS(smoothing=s, view=view), recipe) for s in SWEEP[: experiment.suite.settings]]


def candidates(experiment: Experiment, runner: TrialRunner, target: Target, setting: Attack) -> list[ControlCandidate]:
    """Return what a setting of an attack may have to beat."""
    if setting.holds != "original":
        return sweep(experiment)
    matched = sweep(experiment, regime_of(experiment, runner, target, setting))
    own = [ControlCandidate(setting, experiment.recipe, experiment.truth)] if setting.needs == "probs" else []
    return [*sweep(experiment), *matched, *own]


def candidate_cells(
    experiment: Experiment, candidate: ControlCandidate, seeds: Iterable[int], **changes: Any
) -> list[Cell]:
    recipe = asdict(candidate.recipe)
    return [experiment.cell(candidate.technique, s, candidate.truth, recipe=recipe, **changes) for s in seeds]


def candidate_uses(experiment: Experiment, tried: Sequence[ControlCandidate]) -> list[Use]:
    seeds = _tuning_seeds(experiment)
    cells = (cell for candidate in tried for cell in candidate_cells(experiment, candidate, seeds, splits="validation"))
    return [Use(cell, "tune", None, "control") for cell in cells]


def regime_of(experiment: Experiment, runner: TrialRunner, target: Target, setting: Attack) -> Regime | None:
    """Return what `fit` saw of one setting, or None where it failed."""
    results = runner.found(tuning_cells(experiment, setting, target))
    return None if results is None else results[0].regime


def best_settings(experiment: Experiment, runner: TrialRunner, target: Target, attacks: Attacks) -> list[Attack]:
    """Settle every attack that did not fail on its best setting, on validation."""
    found = []
    for attack in attacks.values():
        tried = settings(experiment, attack)
        if runner.failure([c for s in tried for c in tuning_cells(experiment, s, target)]) is not None:
            continue
        scores = (
            [0.0]
            if len(tried) == 1
            else [_score(experiment, runner.found(tuning_cells(experiment, s, target))) for s in tried]
        )
        found.append(tried[int(np.argmax(scores))])
    return found


def longer_uses(experiment: Experiment, runner: TrialRunner, target: Target, tried: Sequence[Attack]) -> list[Use]:
    """Return students that are tuned for twice the steps: the plain LS student, and what is best of some attacks.

    They show whether the usual steps are enough. An attack of a single setting has no students of these seeds yet: it
    is trained for the usual steps, too. None where settings are chosen by a single seed.
    """
    original = [a for a in tried if a.holds == "original"]
    if experiment.suite.tuning_seeds < 2 or not original:
        return []
    best = max(original, key=lambda a: _score(experiment, runner.found(tuning_cells(experiment, a, target))))
    ls, longer = best_ls(experiment, runner), replace(experiment.recipe, steps=LONGER * experiment.recipe.steps)
    cells = candidate_cells(experiment, replace(ls, recipe=longer), _tuning_seeds(experiment), splits="validation")
    return [Use(cell, "tune", None, "control") for cell in cells] + [
        Use(
            experiment.cell(best, seed, target, recipe=asdict(recipe), splits="validation"),
            "tune",
            target.role,
            "attack",
        )
        for recipe in (experiment.recipe, longer)
        for seed in _tuning_seeds(experiment)
    ]


def choose(
    experiment: Experiment, runner: TrialRunner, target: Target, best: Sequence[Attack]
) -> dict[str, TunedAttack]:
    """Settle on the students without the teacher that are best on validation, for every attack's best setting."""
    return {
        setting.name: TunedAttack(
            setting,
            best_candidate(experiment, runner, candidates(experiment, runner, target, setting)),
            len(settings(experiment, type(setting))),
        )
        for setting in best
        if runner.failure(candidates_tuned(experiment, runner, target, setting)) is None
    }


def candidates_tuned(experiment: Experiment, runner: TrialRunner, target: Target, setting: Attack) -> list[Cell]:
    """Return the students on validation of what a setting may have to beat: without one of them it is not judged."""
    seeds, tried = _tuning_seeds(experiment), candidates(experiment, runner, target, setting)
    return [cell for candidate in tried for cell in candidate_cells(experiment, candidate, seeds, splits="validation")]


def best_candidate(
    experiment: Experiment, runner: TrialRunner, candidates: Sequence[ControlCandidate]
) -> ControlCandidate:
    """Return what is best on validation."""
    return candidates[int(np.argmax([candidate_score(experiment, runner, c) for c in candidates]))]


def best_ls(experiment: Experiment, runner: TrialRunner) -> ControlCandidate:
    """Return the LS student with the plain recipe that is best on validation."""
    return best_candidate(experiment, runner, sweep(experiment))


def baseline_uses(experiment: Experiment) -> list[Use]:
    """Return the students that tune the no-victim baselines of the suite."""
    return [
        Use(cell, "tune", None, "control")
        for name in experiment.suite.controls
        for setting in CONTROLS[name].grid()[: experiment.suite.settings]
        for cell in control_cells(experiment, setting, _tuning_seeds(experiment), splits="validation")
    ]


def control_cells(experiment: Experiment, control: Control, seeds: Iterable[int], **changes: Any) -> list[Cell]:
    return [experiment.cell(control, seed, None, **changes) for seed in seeds]


def baselines(experiment: Experiment, runner: TrialRunner) -> list[Baseline]:
    """Settle every no-victim baseline of the suite on its best setting, the LS student with the plain recipe first."""
    ls = best_ls(experiment, runner)
    assert isinstance(ls.technique, LS)
    found = [Baseline(ls.technique, experiment.recipe, experiment.suite.settings, control_score(experiment, runner))]
    for name in experiment.suite.controls:
        tried = CONTROLS[name].grid()[: experiment.suite.settings]
        cells = (control_cells(experiment, c, _tuning_seeds(experiment), splits="validation") for c in tried)
        scores = [_score(experiment, runner.found(c)) for c in cells]
        best = int(np.argmax(scores))
        found.append(Baseline(tried[best], experiment.recipe, len(tried), scores[best]))
    return found


def baseline_cells(experiment: Experiment, baseline: Baseline, seeds: int) -> list[Cell]:
    """Return the judged students of a baseline."""
    return control_cells(experiment, baseline.control, range(seeds))


def _tuning_seeds(experiment: Experiment) -> range:
    return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + experiment.suite.tuning_seeds)


def control_score(experiment: Experiment, runner: TrialRunner) -> float:
    """Return the validation accuracy of the best LS student with the plain recipe."""
    return candidate_score(experiment, runner, best_ls(experiment, runner))


def candidate_score(experiment: Experiment, runner: TrialRunner, candidate: ControlCandidate) -> float:
    """Return the validation accuracy of students without the teacher."""
    return _score(
        experiment, runner.found(candidate_cells(experiment, candidate, _tuning_seeds(experiment), splits="validation"))
    )


def _score(experiment: Experiment, results: Sequence[Result] | None) -> float:
    if results is None:
        return -1.0
    return float(np.mean([validation_accuracy(experiment, r) for r in results]))


def validation_accuracy(experiment: Experiment, result: Result) -> float:
    hits = result.validation.array() == known(experiment.task.validation)
    return 0.0 if result.diverged else float(hits[experiment.tuning_images].mean())


def first_seeds(experiment: Experiment, attack: type[Attack], seeds: int) -> int:
    """Return how many seeds an attack is judged on at first: fewer where it holds no original images."""
    return seeds if attack.holds == "original" else min(seeds, experiment.suite.query_seeds)


def judged_cells(
    experiment: Experiment, tuned: TunedAttack, target: Target, seeds: int
) -> tuple[list[Cell], list[Cell]]:
    """Return the knockoff students and their LS students, paired by seed."""
    attack = [experiment.cell(tuned.attack, seed, target) for seed in range(seeds)]
    return attack, candidate_cells(experiment, tuned.control, range(seeds))


def null_cells(experiment: Experiment, ls: ControlCandidate) -> tuple[list[Cell], list[Cell]]:
    """Return LS students, and LS students of other seeds."""
    return candidate_cells(experiment, ls, range(experiment.seeds)), candidate_cells(
        experiment, ls, range(FIRST_NULL_SEED, FIRST_NULL_SEED + experiment.seeds)
    )


def label_bite_cells(experiment: Experiment, tuned: TunedAttack, target: Target) -> tuple[list[Cell], list[Cell]]:
    """Return a label-only attack with a tenth of the labels, and the LS student on that tenth."""
    seeds = range(experiment.suite.bite_seeds)
    attack = [experiment.cell(tuned.attack, seed, target, pool=experiment.tenth.digest) for seed in seeds]
    assert isinstance(tuned.control.technique, LS)
    plain = ControlCandidate(LS(smoothing=tuned.control.technique.smoothing), experiment.recipe)
    return attack, candidate_cells(experiment, plain, seeds, pool=experiment.tenth.digest)


def cost_cells(experiment: Experiment, runner: TrialRunner, tuned: TunedAttack, target: Target) -> list[list[Cell]]:
    """Return an attack's students at smaller budgets, once its own number of queries is known, and at that number."""
    own, _ = judged_cells(
        experiment, tuned, target, first_seeds(experiment, type(tuned.attack), experiment.suite.bite_seeds)
    )
    results = runner.found(own) if all(runner.known(cell) for cell in own) else None
    if results is None:
        return [own]
    largest = max(r.charged for r in results)
    budgets = [max(1, round(largest * share)) for share in cost_shares(experiment.suite.budgets)[:-1]]
    return [*([cell.model_copy(update={"budget": budget}) for cell in own] for budget in budgets), own]


def cost_uses(experiment: Experiment, runner: TrialRunner, tuned: TunedAttack, target: Target) -> list[Use]:
    """Return the students of a steal-cost curve; none for attacks that hold original images."""
    if type(tuned.attack).holds == "original":
        return []
    role: Role = "cost" if target.role == "audited" else "bite"
    return [
        Use(c, role, target.role, "attack") for point in cost_cells(experiment, runner, tuned, target) for c in point
    ]


def bite_uses(experiment: Experiment, runner: TrialRunner, tuned: TunedAttack, ordinary: Target) -> list[Use]:
    """Return the students that show whether an attack bites on the ordinary teacher."""
    if type(tuned.attack).holds != "original":
        return cost_uses(experiment, runner, tuned, ordinary)
    if labels_only(type(tuned.attack)):
        knockoffs, students = label_bite_cells(experiment, tuned, ordinary)
    else:
        knockoffs, students = judged_cells(experiment, tuned, ordinary, experiment.suite.bite_seeds)
    controls = [Use(c, "bite", None, "control") for c in students]
    return controls + [Use(c, "bite", ordinary.role, "attack") for c in knockoffs]


def labels_only(attack: type[Attack]) -> bool:
    """Whether an attack on original data uses nothing but labels."""
    return attack.holds == "original" and attack.needs == "label"


def offered(targets: Targets, attacks: Attacks) -> dict[str, Attacks]:
    """Return the attacks that each teacher's surface allows, by its role."""
    return {s.role: {n: a for n, a in attacks.items() if s.surface.offers(a.needs)} for s in both(targets)}


def sound(runner: TrialRunner, cells: Sequence[Cell]) -> bool:
    """Whether students were trained, and none of them diverged."""
    results = runner.found(cells)
    return results is not None and not any(r.diverged for r in results)


def set_aside(experiment: Experiment, runner: TrialRunner, target: Target, tuned: TunedAttack) -> str | None:
    """Return why an attack is its own control, or None."""
    knockoffs, students = judged_cells(experiment, tuned, target, 1)
    if _keys(knockoffs) == _keys(students):
        return "the teacher answers with smoothed labels"
    if not labels_only(type(tuned.attack)) or len(experiment.pool.labelled) < len(experiment.pool):
        return None
    results = runner.found(tuning_cells(experiment, tuned.attack, target)) or []
    repeats = [r.repeats for r in results if r.repeats is not None and r.regime.view in ("raw", "crop")]
    share = np.mean(repeats) if repeats else 0.0
    return f"the teacher repeats {share:.2%} of the labels" if share >= REPEATS else None


def _keys(cells: Sequence[Cell]) -> tuple[str, ...]:
    return tuple(cell.key for cell in cells)
