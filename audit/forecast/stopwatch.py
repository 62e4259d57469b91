"""Measure what a student of each technique costs on this machine, by seconds of training that are thrown away."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from attacks.base import Attack, Technique
from attacks.controls.ls import LS
from audit.cache.store import Cache
from audit.execution.execute import executor
from audit.execution.metering import MADE
from audit.execution.runner import TrialRunner
from audit.plan.cells import Cell, Result
from audit.trials.protocol import Experiment
from reports.progress import ProgressReporter
from teachers.methods import TeacherRecipe, method, teach
from teachers.surface import FULL
from teachers.targets.target import Target
from teachers.task import Pool, Task
from teachers.training import Recipe, build_student, predict

SECONDS = 18.0  # so that a plan takes half a minute
FIRST = 0.02  # part of a student that is trained first, to see how fast this machine is
SHORTER = 5  # the longer of a technique's two training runs, in multiples of the shorter
SHORT, LONG = 3, 10  # steps of a teacher that are timed
SLOW = 1.0  # seconds of the short run from which on there is no long one
EXAM = 512  # images on which a student's answers are timed


@dataclass
class Measurements:
    """Measured costs; seconds and queries are those of one complete student, by technique."""

    seconds: dict[str, float] = field(default_factory=dict)
    queries: dict[str, int] = field(default_factory=dict)
    made: dict[str, float] = field(default_factory=dict)  # share of the queries for images that the attack makes
    exam: float = 0.0  # seconds that a student takes to answer one image
    own_bytes: int = 0  # peak memory of this process
    worker_bytes: int = 0  # peak memory of a worker; 0 where this process trains
    fraction: float = 0.0  # part of a student that the longer run trained
    techniques: list[type[Technique]] = field(default_factory=list)  # that were measured

    def student(self, technique: type[Technique]) -> float:
        """Return a student's seconds; for a technique that was not measured, the median of those that hold as much."""
        alike = [self.seconds[t.name] for t in self.techniques if _holds(t) == _holds(technique)]
        every = alike or [*self.seconds.values()]
        return self.seconds.get(technique.name, float(np.median(every)) if every else np.nan)


def measure(
    experiment: Experiment,
    techniques: Sequence[type[Technique]],
    jobs: int,
    limit: float = SECONDS,
    *,
    isolated: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Measurements:
    """Train two small parts of a student of every technique, and extrapolate linearly to a complete one.

    Images, steps and queries are reduced by the same factor. A synthetic teacher with smoothed labels answers, so that
    the audited teacher gets no query. Techniques that are not measured within `limit` seconds are left out: first come
    those without original images, because each of them costs something else.
    """
    began, found = clock(), Measurements()
    every: list[type[Technique]] = [LS, *sorted(techniques, key=lambda t: _holds(t) == "original")]
    named = [t for t in dict.fromkeys(every) if runs(experiment, t)]
    with tempfile.TemporaryDirectory() as kept:
        watch = _Watch(experiment, jobs, Path(kept), isolated)
        with closing(watch.runner(experiment).executor) as crew:
            watch.crew = crew
            list(watch.run([LS] * max(1, jobs), FIRST))  # imports and other one-time work
            (_, first), *_ = [*watch.run([LS], FIRST), (LS, None)]
            if first is None:
                return found
            found.fraction = part(first.seconds / FIRST, len(named), jobs, limit, experiment.recipe.steps)
            short = dict(watch.run(named, found.fraction / SHORTER))
            for technique, result in watch.run(named, found.fraction):
                if technique in short:
                    found.techniques.append(technique)
                    found.seconds[technique.name] = whole(short[technique].seconds, result.seconds, found.fraction)
                    found.queries[technique.name] = watch.queries(technique, result, found.fraction)
                    found.made[technique.name] = made(result)
                if clock() - began > limit:
                    break
        found.exam = answering(experiment)
    found.own_bytes, found.worker_bytes = peak(resource.RUSAGE_SELF), peak(resource.RUSAGE_CHILDREN)
    if not isolated and (jobs == 1 or experiment.device != "cpu"):
        found.worker_bytes = 0
    return found


def _holds(technique: type[Technique]) -> str:
    return str(getattr(technique, "holds", "original"))


def runs(experiment: Experiment, technique: type[Technique]) -> bool:
    """Whether a technique can run on a teacher that shows probabilities: not if it needs gradients."""
    return not issubclass(technique, Attack) or FULL.offers(technique.needs)


def part(student: float, techniques: int, jobs: int, limit: float, steps: int) -> float:
    """Return which part of a student can be trained in time for each technique, once in full and once shorter.

    `student`: seconds of a complete student. The part is at most one half, and large enough that the shorter run has
    one step.
    """
    fits = 0.5 * limit * max(1, jobs) / (techniques * student * (1 + 1 / SHORTER))
    return float(min(0.5, max(fits, SHORTER / steps)))


def whole(short: float, long: float, fraction: float) -> float:
    """Extrapolate from the seconds of two parts of a student, one `SHORTER` times shorter, to a complete student."""
    slope = max(0.0, long - short) / (fraction - fraction / SHORTER)
    return long + slope * (1 - fraction)


def made(result: Result) -> float:
    """Return the share of a student's queries that are for images that the attack makes."""
    own = sum(asked.images for asked in result.asked if asked.block.startswith(MADE))
    return own / result.charged if result.charged else 0.0


def answering(experiment: Experiment) -> float:
    """Measure the seconds that a student takes to answer one image."""
    network = build_student(experiment.recipe, len(experiment.task.classes), experiment.task.shape)
    exam = experiment.task.validation.take(np.arange(min(EXAM, len(experiment.task.validation))))
    predict(network, exam, experiment.device)
    began = time.perf_counter()
    predict(network, exam, experiment.device)
    return (time.perf_counter() - began) / len(exam)


def step_seconds(recipe: Recipe, task: Task, device: str) -> float:
    """Measure a training step of an ordinary teacher, by a few steps that are thrown away; the first prepares more."""
    some = replace(task, train=_some(task.train, LONG * recipe.batch))

    def steps(number: int) -> np.ndarray:
        ends: list[float] = []
        short = TeacherRecipe(method("plain"), replace(recipe, steps=number, views=1))
        teach(short, some, device=device, progress=lambda *_: ends.append(time.perf_counter()))
        return np.diff(ends)

    few = steps(SHORT)
    return float(np.median(few if few.sum() > SLOW else steps(LONG)))


def peak(who: int) -> int:
    """Return the peak memory in bytes of this process, or of its ended child processes."""
    used = resource.getrusage(who).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used


class _Watch:
    """Trains parts of students."""

    def __init__(self, experiment: Experiment, jobs: int, folder: Path, isolated: bool) -> None:
        self.experiment, self.jobs, self.cache = experiment, jobs, Cache(folder)
        self.crew = executor(jobs, experiment.device, isolated=isolated)

    def runner(self, experiment: Experiment) -> TrialRunner:
        """Return the trial runner of a shortened audit."""
        truth = asked(experiment)
        return TrialRunner(
            cache=self.cache,
            executor=self.crew,
            workers=self.jobs,
            pools={pool.digest: pool for pool in (experiment.pool, experiment.nothing, experiment.surrogate)},
            eval_splits={"validation": _some(experiment.task.validation, EXAM)},
            classes=len(experiment.task.classes),
            targets={(truth.fingerprint, truth.surface.name): truth},
            journal=self.cache.root / "journal.jsonl",
            progress=ProgressReporter(quiet=True),
        )

    def run(self, techniques: Sequence[type[Technique]], fraction: float) -> Iterator[tuple[type[Technique], Result]]:
        """Train a part of a student of each technique; failed ones are left out."""
        experiment = shortened(self.experiment, fraction)
        runner = self.runner(experiment)
        for kind in {technique.views for technique in techniques if issubclass(technique, Attack) and technique.views}:
            runner.ask(
                asked(experiment), experiment.pool, kind, experiment.recipe.views
            )  # as an audit does before training
        cells = [self._cell(experiment, technique, seed, fraction) for seed, technique in enumerate(techniques)]
        by_key = {cell.key: technique for cell, technique in zip(cells, techniques, strict=True)}
        for outcome in self.crew.run([runner.job(cell) for cell in cells], runner.door, runner.eval_splits):
            if isinstance(outcome, Result):
                yield by_key[outcome.cell.key], outcome

    def _cell(self, experiment: Experiment, technique: type[Technique], seed: int, fraction: float) -> Cell:
        setting = self._setting(technique)
        cell = experiment.cell(
            setting, seed, asked(experiment) if isinstance(setting, Attack) else None, splits="validation"
        )
        wished = getattr(setting, "queries", None)
        if wished is None:
            return cell
        return cell.model_copy(update={"budget": max(experiment.recipe.batch, round(self._within(wished) * fraction))})

    def queries(self, technique: type[Technique], result: Result, fraction: float) -> int:
        """Return a complete student's queries: as the technique states, or scaled up from this part's images."""
        wished = getattr(self._setting(technique), "queries", None)
        if wished is not None:
            return self._within(wished)
        return self._within(
            round(result.charged * len(self.experiment.pool) / len(shortened(self.experiment, fraction).pool))
        )

    def _setting(self, technique: type[Technique]) -> Technique:
        return self.experiment.presets.get(technique.name) or technique.grid()[0]

    def _within(self, queries: int) -> int:
        return queries if self.experiment.budget is None else min(queries, self.experiment.budget)


def asked(experiment: Experiment) -> Target:
    """Return the teacher that answers in the place of the audited one."""
    return next(iter(experiment.truths.values()))


def shortened(experiment: Experiment, fraction: float) -> Experiment:
    """Return the same audit with a part of its images and steps: at least two batches of images and one step."""
    images = max(2 * experiment.recipe.batch, round(fraction * len(experiment.pool)))
    surrogates = max(2 * experiment.recipe.batch, round(fraction * len(experiment.surrogate)))
    steps = max(1, round(fraction * experiment.recipe.steps))
    return replace(
        experiment,
        pool=_some(experiment.pool, images),
        surrogate=_some(experiment.surrogate, surrogates),
        recipe=replace(experiment.recipe, steps=steps),
        budget=None,
    )


def _some(pool: Pool, images: int) -> Pool:
    return pool.take(np.random.default_rng(0).permutation(len(pool))[:images])
