"""Trial runner: trains each cell once, reads finished cells from the cache, and records which cells an audit uses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from attacks import registry
from audit.cache.store import Cache
from audit.execution.execute import Executor
from audit.execution.measure import EvalSplits
from audit.execution.metering import CachedTeacher, MeteredOracle, blocks
from audit.execution.worker import Job
from audit.plan.cells import Cell, Failure, Result, Use
from reports.progress import Left, Outlook, ProgressReporter
from teachers.errors import RefusedInput, UsageError
from teachers.oracle import at_once
from teachers.targets.home import LateBox, teach_ahead
from teachers.targets.target import Target
from teachers.task import Pool
from teachers.views import ViewSet


class OwnQuestion(NamedTuple):
    """All views of one kind, or of kinds joined by +, that a teacher which only answers controls is asked about."""

    teacher: str | None
    surface: str | None
    pool: str
    kind: str
    views: int


@dataclass
class TrialRunner:
    """Everything that is needed to train cells, and the outcomes so far."""

    cache: Cache
    executor: Executor
    workers: int  # local processes that teach
    pools: dict[str, Pool]  # the pools that attackers may hold, by digest
    eval_splits: EvalSplits
    classes: int
    targets: dict[tuple[str, str], Target]  # by fingerprint and surface
    journal: Path
    progress: ProgressReporter
    uses: dict[str, Use] = field(default_factory=dict)  # by cell key, in the order of the plan
    results: dict[str, Result] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    ahead: dict[tuple[str, str], int] = field(default_factory=dict)  # images queried before training, by block
    trained: list[str] = field(default_factory=list)
    asked: set[OwnQuestion] = field(default_factory=set)  # by `_ask_own`
    outlook: Callable[[], Outlook] | None = None  # what may be trained yet; None: what is asked for, and no more

    def train(self, phase: str, uses: Iterable[Use]) -> None:
        """Train the cells that are not finished; one that is needed twice is trained once, under its first role."""
        fresh = [use for use in uses if self.uses.setdefault(use.cell.key, use) is use]
        sizes = {name: len(pool) for name, pool in self.eval_splits.items()}
        for use in fresh:
            stored = self.cache.result(use.cell, sizes, self.classes)
            if stored is not None:
                self.results[use.cell.key] = stored
        todo = [use for use in fresh if use.cell.key not in self.results]
        if not todo:
            return
        with self.progress.during("preparing students"):
            self._ask_own(use.cell for use in todo)
            outlook = self.outlook() if self.outlook else Outlook(*[Left(len(todo), worth=len(todo))] * 2)
        with self.progress.training(phase, len(todo), outlook) as step:
            for outcome in self.executor.run([self.job(use.cell) for use in todo], self.door, self.eval_splits):
                self._keep(outcome)
                step()

    def _keep(self, outcome: Result | Failure) -> None:
        key = outcome.cell.key
        owner = owner_of(outcome.cell)
        told = {"cell": key, "technique": outcome.cell.technique}
        if key in self.executor.nodes:
            told["node"] = self.executor.nodes[key]
        if isinstance(outcome, Result):
            if not owner or registry.origin(registry.find(outcome.cell.technique)):  # else its key is one of ours
                self.cache.finish(outcome)
            self.results[key] = outcome
            self.trained.append(key)
            self._log({**told, "seconds": round(outcome.seconds, 3)})
            return
        self._log({**told, "failed": outcome.sentence, "trace": outcome.trace})
        if owner:  # plug-in code may report anything, and must never end an audit
            self.failures[key] = outcome
            return
        if outcome.code == UsageError.exit_code:
            raise UsageError(f"{outcome.cell.technique}: {outcome.sentence}")
        if outcome.code == RefusedInput.exit_code:
            raise RefusedInput(outcome.sentence)
        if self.uses[key].kind == "control" and outcome.cell.teacher is None:
            raise RuntimeError(f"the control {outcome.cell.technique} failed\n{outcome.trace or outcome.sentence}")
        self.failures[key] = outcome

    def _log(self, entry: dict[str, object]) -> None:
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        with self.journal.open("a", encoding="utf-8") as f:
            f.write(json.dumps({"at": round(time.time(), 3), **entry}) + "\n")

    def job(self, cell: Cell) -> Job:
        """Return the job that a worker needs to train a cell."""
        surrogate = None if cell.surrogate is None else self.cache.pool(self.pools[cell.surrogate])
        pool, owner = self.cache.pool(self.pools[cell.pool]), owner_of(cell)
        return Job(cell=cell, pool=pool, surrogate=surrogate, classes=self.classes, owner=owner)

    def door(self, cell: Cell) -> MeteredOracle | None:
        """Return a cell's metered oracle; None for a student that queries no teacher."""
        if cell.teacher is None or cell.surface is None:
            return None
        target = self.targets[cell.teacher, cell.surface]
        held = {digest: self.pools[digest] for digest in (cell.pool, cell.surrogate) if digest is not None}
        teacher, files = self.cached_teacher(target), self.cache.files
        return MeteredOracle(teacher, target.surface, held, cell.budget, files, owner_of(cell))

    def cached_teacher(self, target: Target) -> CachedTeacher:
        """Return the stored answers of a teacher, and what asks for those that are missing."""
        shape = next(iter(self.pools.values())).shape
        metered = target.remote is not None
        store = self.cache.answers(target.fingerprint, target.surface.name, self.classes, metered=metered)
        return CachedTeacher(store, target.box, at_once(shape), target.portable)

    def ask(self, target: Target, pool: Pool, kind: str, views: int) -> None:
        """Query a teacher for all views of a pool that are not stored yet; `kind`: view kinds joined by +."""
        cached_teacher = self.cached_teacher(target)
        for part in kind.split("+"):
            for block, rows, pixels in blocks(pool, ViewSet(part, views), np.arange(len(pool))):  # type: ignore[arg-type]
                cached_teacher.complete(block, rows, pixels)
                self.ahead[f"{target.fingerprint} {target.surface.name}", block.name] = len(rows)

    def _ask_own(self, cells: Iterable[Cell]) -> None:
        """Ask the teachers that only answer controls about all views that these students train on; nobody pays for it.

        So an attacker's own teacher is trained when its first student is, and not at all where none is needed.
        """
        due: dict[OwnQuestion, Target] = {}
        for cell in cells:
            target = self.targets.get((cell.teacher or "", cell.surface or ""))
            views = getattr(registry.find(cell.technique), "views", "")
            question = OwnQuestion(cell.teacher, cell.surface, cell.pool, views, cell.recipe["views"])
            if target is not None and target.control and views and question not in self.asked:
                due[question] = target
        late = [target.full for question, target in due.items() if not self._answered(target, question)]
        lessons = [box.lesson for box in late if isinstance(box, LateBox)]
        with self.progress.during(f"teaching {len(lessons)} teachers of the attacker's own"):
            teach_ahead(lessons, self.workers)
        for question, target in due.items():
            with self.progress.during(f"asking a teacher of the attacker's own ({target.teacher.name})"):
                self.ask(target, self.pools[question.pool], question.kind, question.views)
            self.asked.add(question)

    def _answered(self, target: Target, question: OwnQuestion) -> bool:
        """Whether a teacher's answers for all views of a pool are stored."""
        store, pool = self.cached_teacher(target).store, self.pools[question.pool]
        sets = (ViewSet(part, question.views) for part in question.kind.split("+"))  # type: ignore[arg-type]
        each = (found for one in sets for found in blocks(pool, one, np.arange(len(pool))))
        return not any(len(store.load(block.name, rows)[1]) for block, rows, _ in each)

    def known(self, key: str) -> bool:
        """Whether a cell has a result or a failure."""
        return key in self.results or key in self.failures

    def found(self, keys: Sequence[str]) -> list[Result] | None:
        """Return the results of some cells; None where one of them failed."""
        return None if self.failure(keys) else [self.results[key] for key in keys]

    def failure(self, keys: Sequence[str]) -> Failure | None:
        """Return the first failure among some cells, if any."""
        return next((self.failures[key] for key in keys if key in self.failures), None)


def owner_of(cell: Cell) -> str:
    """Return the plug-in distribution whose code trains a cell; empty for built-in code."""
    return registry.owner(cell.technique, cell.recipe.get("wrap"))
