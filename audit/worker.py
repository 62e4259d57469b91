"""The worker's side of a cell: it trains, asks about what is not stored, and holds neither test split nor weights."""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from attacks.base import Lab, Technique
from attacks.registry import find
from audit.cells import Asked, Cell, Failure, Plain
from audit.store import AnswerStore, Rows, read_pool
from reports.record import Packed
from teachers.errors import AuditError
from teachers.oracle import Oracle
from teachers.surface import Answers, Surface, concatenate
from teachers.task import Pool
from teachers.training import Recipe, Report
from teachers.views import Viewer, ViewSet

BLOCK = 4096  # images whose answers are stored, and sent, together
MADE = "x-"  # begins the name of a block of images that are no views of a pool


class Job(Plain):
    """A cell and where its worker finds what it may hold."""

    cell: Cell
    pool: Path
    surrogate: Path | None
    answers: Path | None  # folder of the teacher's stored answers
    classes: int


@dataclass(frozen=True)
class Trained:
    """What comes back from a worker; seconds of all that was fitted, not of the last student alone."""

    weights: dict[str, np.ndarray]  # numpy, because torch would send tensors by shared memory
    report: Report
    charged: int
    asked: tuple[Asked, ...]


class Block(NamedTuple):
    """A stretch of images whose answers are stored together."""

    name: str
    size: int


Ask = Callable[[Block, Rows, Tensor], None]  # rows of a block and their pixels; the answers go to the store


class Asker:
    """The worker's side of the store: reads what is there, asks for the rest, remembers what it rests on."""

    def __init__(self, folder: Path, ask: Ask) -> None:
        self._store, self._ask = AnswerStore(folder), ask
        self._rests: dict[str, np.ndarray] = {}

    def library(self, pool: Pool, views: ViewSet, index: Rows) -> Answers:
        """Return the answers about all views of some images, view-major."""
        parts = [self._answer(*block) for block in blocks(pool, views, index)]
        return concatenate(parts)

    def directly(self, images: Tensor) -> Answers:
        """Return the answers about images that are no views of a pool, stored by their content."""
        name = f"{MADE}{hashlib.sha256(images.numpy().tobytes()).hexdigest()[:48]}"
        rows = np.arange(len(images))
        return self._answer(Block(name, len(images)), rows, lambda: images)

    def _answer(self, block: Block, rows: Rows, pixels: Callable[[], Tensor]) -> Answers:
        self._rests.setdefault(block.name, np.zeros(block.size, bool))[rows] = True
        stored, missing = self._store.load(block.name, rows)
        if len(missing):
            self._ask(block, missing, pixels()[np.searchsorted(rows, missing)])
            stored, missing = self._store.load(block.name, rows)
        if stored is None or len(missing):
            raise RuntimeError(f"{len(rows)} answers were asked for and are not in the store: {block.name}")
        return stored[torch.from_numpy(rows)]

    @property
    def rests(self) -> tuple[Asked, ...]:
        """What was asked, or found stored."""
        return tuple(
            Asked(block=name, images=len(rows), rows=None if rows.all() else Packed.of(rows))
            for name, rows in sorted(self._rests.items())
        )


def blocks(pool: Pool, views: ViewSet, index: Rows) -> Iterator[tuple[Block, Rows, Callable[[], Tensor]]]:
    """Walk over the views of some images, view-major: block, rows of it, and their pixels on demand."""
    viewer = Viewer(pool, views)
    for view in range(views.count):
        for start in range(0, len(pool), BLOCK):
            size = min(BLOCK, len(pool) - start)
            images = index[(index >= start) & (index < start + size)]

            def pixels(images: Rows = images, view: int = view) -> Tensor:
                at = torch.from_numpy(images)
                return viewer(at, torch.full_like(at, view))

            if len(images):
                name = f"{pool.pixels[:32]}-{views.kind}-{view}-{start}"
                yield Block(name, size), images - start, pixels


def train(job: Job, ask: Ask) -> Trained:
    """Train a cell's student: the only code that runs an attack."""
    cell, pool = job.cell, _pool(job.pool)
    asker, oracle = None, None
    if job.answers is not None and cell.surface is not None:
        asker = Asker(job.answers, ask)
        directly = asker.directly
        oracle = Oracle(
            lambda x: directly(x.cpu()), surface=Surface.parse(cell.surface), shape=pool.shape, budget=cell.budget
        )
    lab = Lab(
        oracle=oracle,
        pool=pool,
        surrogate=pool.take(np.arange(0)) if job.surrogate is None else _pool(job.surrogate),
        classes=job.classes,
        recipe=Recipe(**cell.recipe),
        seed=cell.seed,
        device=cell.device,
        library=None if asker is None else asker.library,
    )
    began = time.perf_counter()
    student = technique(cell).attempt(lab)
    report = replace(student.report, seconds=time.perf_counter() - began, step_seconds=lab.step_seconds)
    weights = {name: t.detach().cpu().numpy() for name, t in student.network.state_dict().items()}
    if asker is None or oracle is None:
        return Trained(weights, report, 0, ())
    return Trained(weights, report, oracle.charged, asker.rests)


@lru_cache(maxsize=4)
def _pool(path: Path) -> Pool:
    return read_pool(path)


def technique(cell: Cell) -> Technique:
    """Build the attack or control of a cell."""
    return find(cell.technique)(**cell.parameters)


def failure(cell: Cell, error: BaseException) -> Failure:
    if isinstance(error, AuditError):
        return Failure(cell=cell, sentence=str(error), code=error.exit_code)
    trace = "".join(traceback.format_exception(error))
    return Failure(cell=cell, sentence=f"{type(error).__name__}: {error}", trace=trace)
