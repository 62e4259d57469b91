"""A worker trains one cell: it queries the oracle, but holds neither test split, teacher nor query count."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from attacks.base import Lab, Technique
from attacks.registry import runnable
from audit.execution.metering import BLOCK
from audit.plan.cells import Cell, Failure
from reports.base import Data
from teachers import graphs
from teachers.errors import AuditError
from teachers.oracle import Oracle
from teachers.storage.store import Rows, read_pool
from teachers.surface import Answers, Surface, concatenate
from teachers.task import Pool
from teachers.training import MOST_DECODED, Recipe, Report
from teachers.views import Viewer, ViewSet

FLAGS = (
    (torch.backends.cudnn, "deterministic"),
    (torch.backends.cudnn, "benchmark"),
    (torch.backends.cudnn, "allow_tf32"),
    (torch.backends.cuda.matmul, "allow_tf32"),
    (torch.backends.mkldnn, "enabled"),
)


class Job(Data):
    """A cell, and the files of the images that its worker may hold."""

    cell: Cell
    pool: Path
    surrogate: Path | None
    classes: int
    owner: str = ""  # the plug-in distribution whose code trains it; empty for built-in code


@dataclass(frozen=True)
class TrainingOutcome:
    """A worker's result; the report's seconds cover everything that was fitted, not only the last student."""

    weights: dict[str, np.ndarray]
    report: Report


class Ask(Protocol):
    """Interface of the metered oracle on the worker's side."""

    def views(self, pool: str, sets: Sequence[ViewSet], index: Rows) -> Answers:
        """Return the answers for all views of some images of a pool, one set after the other, view-major."""
        ...

    def images(self, images: Tensor, estimate: bool = False) -> Answers:
        """Return the answers for images that the attack made, to train on or (`estimate`) to estimate a gradient."""
        ...


def train(job: Job, ask: Ask | None, progress: Callable[[int], None] | None = None) -> TrainingOutcome:
    """Train a cell's student; the only code that runs an attack. Without `ask`, the attack gets no oracle."""
    with defaults():
        return _train(job, ask, progress)


@contextmanager
def defaults() -> Iterator[None]:
    """Run an attack with the default settings of torch, NumPy and Python, and restore the earlier ones afterwards."""
    before = torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    flags = [(module, name, getattr(module, name)) for module, name in FLAGS]
    chance, numbers = random.getstate(), np.random.get_state()
    torch.set_default_dtype(torch.float32)
    random.seed(0)
    np.random.seed(0)
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_default_dtype(before[0])
        torch.set_num_threads(before[1])
        torch.use_deterministic_algorithms(before[2])
        torch.set_default_device(None)
        for module, name, value in flags:
            setattr(module, name, value)
        random.setstate(chance)
        np.random.set_state(numbers)


def _train(job: Job, ask: Ask | None, progress: Callable[[int], None] | None) -> TrainingOutcome:
    cell, pool = job.cell, _pool(job.pool)
    surrogate = pool.take(np.arange(0)) if job.surrogate is None else _pool(job.surrogate)
    oracle = None
    if ask is not None and cell.surface is not None:
        door = ask
        surface = Surface.parse(cell.surface)
        oracle = Oracle(
            lambda x: door.images(x.cpu()),
            surface=surface,
            shape=pool.shape,
            budget=cell.budget,
            estimate_by=lambda x: door.images(x.cpu(), estimate=True),
        )

    def library(images: Pool, sets: Sequence[ViewSet], index: Rows) -> Answers:
        assert ask is not None
        for held, digest in ((pool, cell.pool), (surrogate, cell.surrogate)):
            if images is held and digest is not None:
                return ask.views(digest, sets, index)
        at, viewers = torch.split(torch.from_numpy(index), BLOCK), ((Viewer(images, one), one.count) for one in sets)
        pixels = (viewer(part, torch.full_like(part, v)) for viewer, n in viewers for v in range(n) for part in at)
        return concatenate([ask.images(x) for x in pixels])

    lab = Lab(
        oracle=oracle,
        pool=pool,
        surrogate=surrogate,
        classes=job.classes,
        recipe=Recipe(**cell.recipe),
        seed=cell.seed,
        device=cell.device,
        library=None if oracle is None else library,
        progress=progress,
        folder=job.pool.parent,
    )
    began, card = time.perf_counter(), graphs.present(torch.device(cell.device))
    if card:
        torch.cuda.reset_peak_memory_stats()
    student = technique(cell).attempt(lab)
    report = replace(
        student.report,
        seconds=time.perf_counter() - began,
        step_seconds=lab.step_seconds,
        decoded=str(lab.decoded)[:MOST_DECODED],
        memory=torch.cuda.max_memory_reserved() if card else 0,
    )
    return TrainingOutcome({name: t.detach().cpu().numpy() for name, t in student.network.state_dict().items()}, report)


@lru_cache(maxsize=4)
def _pool(path: Path) -> Pool:
    return read_pool(path)


def technique(cell: Cell) -> Technique:
    """Build the attack or control of a cell."""
    return runnable(cell.technique)(**cell.parameters)


def failure(cell: Cell, error: BaseException) -> Failure:
    """Return the failure of a cell that could not be trained."""
    if isinstance(error, AuditError):
        return Failure(cell=cell, sentence=str(error), code=error.exit_code)
    trace = "".join(traceback.format_exception(error))
    return Failure(cell=cell, sentence=f"{type(error).__name__}: {error}", trace=trace)
