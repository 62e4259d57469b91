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
from audit.execution.bench import Bench
from audit.plan.cells import SMOOTHED, Cell, Result, Role, Use
from audit.plan.measures import REPEATS
from audit.plan.suite import FIRST_NULL_SEED, FIRST_TUNING_SEED, LONGER, Suite, cost_shares
from audit.trials import protocol
from reports.record import Regime
from teachers.targets.isolation import Faculty, both
from teachers.targets.target import Subject, smoothed_truth
from teachers.task import Pool, Task, known
from teachers.training import Recipe

TENTH = 0.1  # of the labels: the threat model in which label-only attacks must bite

Attacks = dict[str, type[Attack]]


@dataclass(frozen=True)
class Setup:
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
    def truth(self) -> Subject:
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

    def cell(self, technique: Technique, seed: int, subject: Subject | None, **changes: Any) -> Cell:
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
            teacher=None if subject is None else subject.fingerprint,
            surface=None if subject is None else subject.surface.name,
            budget=None if subject is None else self.budget,
            device=self.device,
        )
        return base.model_copy(update=changes)


@dataclass(frozen=True)
class Rival:
    """Students without the teacher that an attack must beat: LS students, or the attack's own on smoothed labels.

    The LS student has the plain recipe or the attack's; the attack's own students have its loss, too.
    """

    technique: LS | Attack
    recipe: Recipe
    truth: Subject | None = None  # what an attack asks: it knows the smoothed labels and nothing else

    @property
    def name(self) -> str:
        """What a report calls it."""
        return self.technique.name if self.truth is None else self.technique.name + SMOOTHED


@dataclass(frozen=True)
class Chosen:
    """What tuning settled on for one attack on one teacher."""

    attack: Attack
    control: Rival
    tuned_over: int


Settled = dict[str, dict[str, Chosen]]  # by role of the teacher, then by attack


@dataclass
class Side:
    """One student architecture under attack: what its attacks are tuned to, and what they have come to."""

    setup: Setup
    settled: Settled
    looks: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by attack: judged seeds at each look so far


@dataclass(frozen=True)
class Baseline:
    """A no-victim baseline and the setting that tuning settled on; `score` is its accuracy on validation."""

    control: Control
    recipe: Recipe
    tuned_over: int
    score: float


def tuning_uses(setup: Setup, subject: Subject, attacks: Attacks) -> list[Use]:
    """Return the students that tune attacks on a teacher: also of a single setting where its regime must be known."""
    return [
        Use(cell, _role(cell, subject), subject.role, "attack")
        for attack in attacks.values()
        for setting in settings(setup, attack)
        for cell in tuning_cells(setup, setting, subject)
        if attack.holds == "original" or len(settings(setup, attack)) > 1
    ]


def _role(cell: Cell, subject: Subject) -> Role:
    if cell.splits == "validation":
        return "tune"
    return "judge" if subject.role == "audited" else "bite"


def settings(setup: Setup, attack: type[Attack]) -> tuple[Attack, ...]:
    """Return the settings that an attack is tuned over: as many as the LS student, at most, or a preset alone."""
    preset = setup.presets.get(attack.name)
    return attack.grid()[: setup.suite.settings] if preset is None else (preset,)


def tuning_cells(setup: Setup, setting: Attack, subject: Subject) -> list[Cell]:
    """Return the students that a setting is chosen by; of a single one, the first judged one, for its regime."""
    if len(settings(setup, type(setting))) == 1:
        return [setup.cell(setting, 0, subject)]
    return [setup.cell(setting, seed, subject, splits="validation") for seed in _tuning_seeds(setup)]


def sweep(setup: Setup, regime: Regime | None = None) -> list[Rival]:
    """Return the smoothing sweep of the LS student, with the plain recipe or matched to an attack's regime."""
    recipe, view = setup.recipe, "crop"
    if regime is not None:
        recipe, view = Recipe(**regime.recipe), regime.view  # type: ignore[arg-type]  # it was written from a recipe
    return [Rival(LS(smoothing=s, view=view), recipe) for s in SWEEP[: setup.suite.settings]]


def rivals(setup: Setup, bench: Bench, subject: Subject, setting: Attack) -> list[Rival]:
    """Return what a setting of an attack may have to beat."""
    if setting.holds != "original":
        return sweep(setup)
    matched = sweep(setup, regime_of(setup, bench, subject, setting))
    own = [Rival(setting, setup.recipe, setup.truth)] if setting.needs == "probs" else []
    return [*sweep(setup), *matched, *own]


def rival_cells(setup: Setup, rival: Rival, seeds: Iterable[int], **changes: Any) -> list[Cell]:
    recipe = asdict(rival.recipe)
    return [setup.cell(rival.technique, s, rival.truth, recipe=recipe, **changes) for s in seeds]


def rival_uses(setup: Setup, tried: Sequence[Rival]) -> list[Use]:
    seeds = _tuning_seeds(setup)
    cells = (cell for rival in tried for cell in rival_cells(setup, rival, seeds, splits="validation"))
    return [Use(cell, "tune", None, "control") for cell in cells]


def regime_of(setup: Setup, bench: Bench, subject: Subject, setting: Attack) -> Regime | None:
    """Return what `fit` saw of one setting, or None where it failed."""
    results = bench.found(tuning_cells(setup, setting, subject))
    return None if results is None else results[0].regime


def best_settings(setup: Setup, bench: Bench, subject: Subject, attacks: Attacks) -> list[Attack]:
    """Settle every attack that did not fail on its best setting, on validation."""
    found = []
    for attack in attacks.values():
        tried = settings(setup, attack)
        if bench.failure([c for s in tried for c in tuning_cells(setup, s, subject)]) is not None:
            continue
        scores = (
            [0.0] if len(tried) == 1 else [_score(setup, bench.found(tuning_cells(setup, s, subject))) for s in tried]
        )
        found.append(tried[int(np.argmax(scores))])
    return found


def longer_uses(setup: Setup, bench: Bench, subject: Subject, tried: Sequence[Attack]) -> list[Use]:
    """Return students that are tuned for twice the steps: the plain LS student, and what is best of some attacks.

    They show whether the usual steps are enough. An attack of a single setting has no students of these seeds yet: it
    is trained for the usual steps, too. None where settings are chosen by a single seed.
    """
    original = [a for a in tried if a.holds == "original"]
    if setup.suite.tuning_seeds < 2 or not original:
        return []
    best = max(original, key=lambda a: _score(setup, bench.found(tuning_cells(setup, a, subject))))
    ls, longer = best_ls(setup, bench), replace(setup.recipe, steps=LONGER * setup.recipe.steps)
    cells = rival_cells(setup, replace(ls, recipe=longer), _tuning_seeds(setup), splits="validation")
    return [Use(cell, "tune", None, "control") for cell in cells] + [
        Use(setup.cell(best, seed, subject, recipe=asdict(recipe), splits="validation"), "tune", subject.role, "attack")
        for recipe in (setup.recipe, longer)
        for seed in _tuning_seeds(setup)
    ]


def choose(setup: Setup, bench: Bench, subject: Subject, best: Sequence[Attack]) -> dict[str, Chosen]:
    """Settle on the students without the teacher that are best on validation, for every attack's best setting."""
    return {
        setting.name: Chosen(
            setting,
            best_rival(setup, bench, rivals(setup, bench, subject, setting)),
            len(settings(setup, type(setting))),
        )
        for setting in best
        if bench.failure(rivals_tuned(setup, bench, subject, setting)) is None
    }


def rivals_tuned(setup: Setup, bench: Bench, subject: Subject, setting: Attack) -> list[Cell]:
    """Return the students on validation of what a setting may have to beat: without one of them it is not judged."""
    seeds, tried = _tuning_seeds(setup), rivals(setup, bench, subject, setting)
    return [cell for rival in tried for cell in rival_cells(setup, rival, seeds, splits="validation")]


def best_rival(setup: Setup, bench: Bench, candidates: Sequence[Rival]) -> Rival:
    """Return what is best on validation."""
    return candidates[int(np.argmax([rival_score(setup, bench, c) for c in candidates]))]


def best_ls(setup: Setup, bench: Bench) -> Rival:
    """Return the LS student with the plain recipe that is best on validation."""
    return best_rival(setup, bench, sweep(setup))


def baseline_uses(setup: Setup) -> list[Use]:
    """Return the students that tune the no-victim baselines of the suite."""
    return [
        Use(cell, "tune", None, "control")
        for name in setup.suite.controls
        for setting in CONTROLS[name].grid()[: setup.suite.settings]
        for cell in control_cells(setup, setting, _tuning_seeds(setup), splits="validation")
    ]


def control_cells(setup: Setup, control: Control, seeds: Iterable[int], **changes: Any) -> list[Cell]:
    return [setup.cell(control, seed, None, **changes) for seed in seeds]


def baselines(setup: Setup, bench: Bench) -> list[Baseline]:
    """Settle every no-victim baseline of the suite on its best setting, the LS student with the plain recipe first."""
    ls = best_ls(setup, bench)
    assert isinstance(ls.technique, LS)
    found = [Baseline(ls.technique, setup.recipe, setup.suite.settings, control_score(setup, bench))]
    for name in setup.suite.controls:
        tried = CONTROLS[name].grid()[: setup.suite.settings]
        cells = (control_cells(setup, c, _tuning_seeds(setup), splits="validation") for c in tried)
        scores = [_score(setup, bench.found(c)) for c in cells]
        best = int(np.argmax(scores))
        found.append(Baseline(tried[best], setup.recipe, len(tried), scores[best]))
    return found


def baseline_cells(setup: Setup, baseline: Baseline, seeds: int) -> list[Cell]:
    """Return the judged students of a baseline."""
    return control_cells(setup, baseline.control, range(seeds))


def _tuning_seeds(setup: Setup) -> range:
    return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + setup.suite.tuning_seeds)


def control_score(setup: Setup, bench: Bench) -> float:
    """Return the validation accuracy of the best LS student with the plain recipe."""
    return rival_score(setup, bench, best_ls(setup, bench))


def rival_score(setup: Setup, bench: Bench, rival: Rival) -> float:
    """Return the validation accuracy of students without the teacher."""
    return _score(setup, bench.found(rival_cells(setup, rival, _tuning_seeds(setup), splits="validation")))


def _score(setup: Setup, results: Sequence[Result] | None) -> float:
    if results is None:
        return -1.0
    return float(np.mean([validation_accuracy(setup, r) for r in results]))


def validation_accuracy(setup: Setup, result: Result) -> float:
    hits = result.validation.array() == known(setup.task.validation)
    return 0.0 if result.diverged else float(hits[setup.tuning_images].mean())


def first_seeds(setup: Setup, attack: type[Attack], seeds: int) -> int:
    """Return how many seeds an attack is judged on at first: fewer where it holds no original images."""
    return seeds if attack.holds == "original" else min(seeds, setup.suite.query_seeds)


def judged_cells(setup: Setup, chosen: Chosen, subject: Subject, seeds: int) -> tuple[list[Cell], list[Cell]]:
    """Return the knockoff students and their LS students, paired by seed."""
    attack = [setup.cell(chosen.attack, seed, subject) for seed in range(seeds)]
    return attack, rival_cells(setup, chosen.control, range(seeds))


def null_cells(setup: Setup, ls: Rival) -> tuple[list[Cell], list[Cell]]:
    """Return LS students, and LS students of other seeds."""
    return rival_cells(setup, ls, range(setup.seeds)), rival_cells(
        setup, ls, range(FIRST_NULL_SEED, FIRST_NULL_SEED + setup.seeds)
    )


def label_bite_cells(setup: Setup, chosen: Chosen, subject: Subject) -> tuple[list[Cell], list[Cell]]:
    """Return a label-only attack with a tenth of the labels, and the LS student on that tenth."""
    seeds = range(setup.suite.bite_seeds)
    attack = [setup.cell(chosen.attack, seed, subject, pool=setup.tenth.digest) for seed in seeds]
    assert isinstance(chosen.control.technique, LS)
    plain = Rival(LS(smoothing=chosen.control.technique.smoothing), setup.recipe)
    return attack, rival_cells(setup, plain, seeds, pool=setup.tenth.digest)


def cost_cells(setup: Setup, bench: Bench, chosen: Chosen, subject: Subject) -> list[list[Cell]]:
    """Return an attack's students at smaller budgets, once its own number of queries is known, and at that number."""
    own, _ = judged_cells(setup, chosen, subject, first_seeds(setup, type(chosen.attack), setup.suite.bite_seeds))
    results = bench.found(own) if all(bench.known(cell) for cell in own) else None
    if results is None:
        return [own]
    largest = max(r.charged for r in results)
    budgets = [max(1, round(largest * share)) for share in cost_shares(setup.suite.budgets)[:-1]]
    return [*([cell.model_copy(update={"budget": budget}) for cell in own] for budget in budgets), own]


def cost_uses(setup: Setup, bench: Bench, chosen: Chosen, subject: Subject) -> list[Use]:
    """Return the students of a steal-cost curve; none for attacks that hold original images."""
    if type(chosen.attack).holds == "original":
        return []
    role: Role = "cost" if subject.role == "audited" else "bite"
    return [Use(c, role, subject.role, "attack") for point in cost_cells(setup, bench, chosen, subject) for c in point]


def bite_uses(setup: Setup, bench: Bench, chosen: Chosen, ordinary: Subject) -> list[Use]:
    """Return the students that show whether an attack bites on the ordinary teacher."""
    if type(chosen.attack).holds != "original":
        return cost_uses(setup, bench, chosen, ordinary)
    if labels_only(type(chosen.attack)):
        knockoffs, students = label_bite_cells(setup, chosen, ordinary)
    else:
        knockoffs, students = judged_cells(setup, chosen, ordinary, setup.suite.bite_seeds)
    controls = [Use(c, "bite", None, "control") for c in students]
    return controls + [Use(c, "bite", ordinary.role, "attack") for c in knockoffs]


def labels_only(attack: type[Attack]) -> bool:
    """Whether an attack on original data uses nothing but labels."""
    return attack.holds == "original" and attack.needs == "label"


def offered(faculty: Faculty, attacks: Attacks) -> dict[str, Attacks]:
    """Return the attacks that each teacher's surface allows, by its role."""
    return {s.role: {n: a for n, a in attacks.items() if s.surface.offers(a.needs)} for s in both(faculty)}


def sound(bench: Bench, cells: Sequence[Cell]) -> bool:
    """Whether students were trained, and none of them diverged."""
    results = bench.found(cells)
    return results is not None and not any(r.diverged for r in results)


def set_aside(setup: Setup, bench: Bench, subject: Subject, chosen: Chosen) -> str | None:
    """Return why an attack is its own control, or None."""
    knockoffs, students = protocol.judged_cells(setup, chosen, subject, 1)
    if _keys(knockoffs) == _keys(students):
        return "the teacher answers with smoothed labels"
    if not protocol.labels_only(type(chosen.attack)) or len(setup.pool.labelled) < len(setup.pool):
        return None
    results = bench.found(protocol.tuning_cells(setup, chosen.attack, subject)) or []
    repeats = [r.repeats for r in results if r.repeats is not None and r.regime.view in ("raw", "crop")]
    share = np.mean(repeats) if repeats else 0.0
    return f"the teacher repeats {share:.2%} of the labels" if share >= REPEATS else None


def _keys(cells: Sequence[Cell]) -> tuple[str, ...]:
    return tuple(cell.key for cell in cells)
