"""Where cells run: a cell in, a trained student's answers out, plain data; nothing else knows where.

The worker holds neither the test split nor the teacher's weights: it asks over a pipe, and its parent scores it.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from attacks.base import Lab, Technique
from attacks.registry import find
from audit.cells import Asked, Cell, Failure, Plain, Result
from audit.store import AnswerStore, Rows, read_pool
from reports.record import Packed, Regime
from teachers.errors import AuditError
from teachers.oracle import Oracle
from teachers.surface import Answers, Surface, concatenate
from teachers.task import Pool
from teachers.training import Recipe, Report, build_student, predict
from teachers.views import Viewer, ViewSet

BLOCK = 4096  # images whose answers are stored, and sent, together


class Job(Plain):
    """A cell and where its worker finds what it may hold."""

    cell: Cell
    pool: Path
    surrogate: Path | None
    answers: Path | None  # folder of the teacher's stored answers
    classes: int


@dataclass(frozen=True)
class Trained:
    """What comes back from a worker."""

    weights: dict[str, np.ndarray]  # numpy, because torch would send tensors by shared memory
    report: Report
    charged: int
    asked: tuple[Asked, ...]


class Block(NamedTuple):
    """A stretch of images whose answers are stored together."""

    name: str
    size: int


Ask = Callable[[Block, Rows, Tensor], None]  # rows of a block and their pixels; the answers go to the store
Serve = Callable[[Cell, Block, Rows, Tensor], None]
Exams = dict[str, Pool]  # "validation" and "test", held by the parent alone


class Executor(Protocol):
    """The interface that a cluster engine will stand behind."""

    def run(self, jobs: Sequence[Job], serve: Serve, exams: Exams) -> Iterator[Result | Failure]:
        """Train and measure every job, in any order."""
        ...

    def close(self) -> None:
        """Give back what running took."""
        ...


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
        name = f"x-{hashlib.sha256(images.numpy().tobytes()).hexdigest()[:48]}"
        rows = np.arange(len(images))
        return self._answer(Block(name, len(images)), rows, lambda: images)

    def _answer(self, block: Block, rows: Rows, pixels: Callable[[], Tensor]) -> Answers:
        self._rests.setdefault(block.name, np.zeros(block.size, bool))[rows] = True
        stored, missing = self._store.load(block.name, rows)
        if len(missing):
            self._ask(block, missing, pixels()[np.searchsorted(rows, missing)])
            stored, _ = self._store.load(block.name, rows)
        assert stored is not None
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
        surrogate=pool.take(pool.labelled[:0]) if job.surrogate is None else _pool(job.surrogate),
        classes=job.classes,
        recipe=Recipe(**cell.recipe),
        seed=cell.seed,
        device=cell.device,
        library=None if asker is None else asker.library,
    )
    student = technique(cell).attempt(lab)
    weights = {name: t.detach().cpu().numpy() for name, t in student.network.state_dict().items()}
    if asker is None or oracle is None:
        return Trained(weights, student.report, 0, ())
    return Trained(weights, student.report, oracle.charged, asker.rests)


@lru_cache(maxsize=4)
def _pool(path: Path) -> Pool:
    return read_pool(path)


def technique(cell: Cell) -> Technique:
    """Build the attack or control of a cell."""
    return find(cell.technique)(**cell.parameters)


def measure(cell: Cell, trained: Trained, exams: Exams, classes: int) -> Result:
    """Let a trained student answer the splits that its cell names."""
    network = build_student(Recipe(**cell.recipe), classes, exams["validation"].shape)
    network.load_state_dict({name: torch.from_numpy(w) for name, w in trained.weights.items()})
    answers = {
        name: Packed.of(predict(network, exam, cell.device))
        for name, exam in exams.items()
        if name == "validation" or cell.splits == "both"
    }
    seen = trained.report
    return Result(
        cell=cell,
        regime=Regime(steps=seen.steps, batch=seen.batch, view=seen.view, source=seen.source, wrap=seen.wrap),
        validation=answers["validation"],
        test=answers.get("test"),
        charged=trained.charged,
        asked=trained.asked,
        repeats=seen.repeats,
        diverged=seen.diverged,
        network_parameters=seen.parameters,
        seconds=seen.seconds,
        step_seconds=seen.step_seconds,
    )


def _failure(cell: Cell, error: BaseException) -> Failure:
    if isinstance(error, AuditError):
        return Failure(cell=cell, sentence=str(error), code=error.exit_code)
    trace = "".join(traceback.format_exception(error))
    return Failure(cell=cell, sentence=f"{type(error).__name__}: {error}", trace=trace)


class Inline:
    """Run cells one after the other in this process: for a GPU, and for tests."""

    def run(self, jobs: Sequence[Job], serve: Serve, exams: Exams) -> Iterator[Result | Failure]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for job in jobs:
                yield self._one(job, serve, exams)
        finally:
            torch.set_num_threads(threads)

    def close(self) -> None:
        """Nothing is held between runs."""

    def _one(self, job: Job, serve: Serve, exams: Exams) -> Result | Failure:
        try:
            trained = train(job, partial(serve, job.cell))
        except Exception as e:  # an attack may be a stranger's: whatever it raises is a failed attack, never a pass
            return _failure(job.cell, e)
        return measure(job.cell, trained, exams, job.classes)


class Processes:
    """Run cells in local processes of one thread each, started once and fed one cell at a time."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._crew: list[_Worker] = []

    def run(self, jobs: Sequence[Job], serve: Serve, exams: Exams) -> Iterator[Result | Failure]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        while len(self._crew) < min(self._workers, len(jobs)):
            self._crew.append(_Worker())
        try:
            yield from self._feed(self._crew, deque(jobs), serve, exams)
        finally:
            torch.set_num_threads(threads)

    def close(self) -> None:
        for worker in self._crew:
            worker.stop()
        self._crew = []

    def _feed(self, crew: list[_Worker], queue: deque[Job], serve: Serve, exams: Exams) -> Iterator[Result | Failure]:
        for worker in crew:
            worker.give(queue)
        while busy := {worker.pipe: worker for worker in crew if worker.job is not None}:
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]  # wait() returns the connections it was given
                job = worker.job
                assert job is not None
                try:
                    message = worker.pipe.recv()
                except (EOFError, ConnectionError):
                    worker.restart()
                    worker.give(queue)
                    yield Failure(cell=job.cell, sentence="its process died (out of memory?)")
                    continue
                if isinstance(message, tuple):
                    worker.pipe.send(_served(serve, job.cell, *message))
                    continue
                worker.give(queue)
                yield message if isinstance(message, Failure) else measure(job.cell, message, exams, job.classes)


def _served(serve: Serve, cell: Cell, block: Block, rows: Rows, images: np.ndarray) -> AuditError | None:
    try:
        serve(cell, block, rows, torch.from_numpy(images))
    except AuditError as e:
        return e
    return None


class _Worker:
    """A process and the job it has in hand."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.pipe: Connection
        self._process: BaseProcess
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, queue: deque[Job]) -> None:
        self.job = queue.popleft() if queue else None
        if self.job is not None:
            self.pipe.send(self.job)

    def restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        self.pipe.close()
        self._process.kill()
        self._process.join()


def _work(pipe: Connection, parent: int) -> None:
    """Train what comes through the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            pipe.send(train(job, partial(_ask, pipe)))
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as e:  # an attack may be a stranger's: whatever it raises is a failed attack, never a pass
            pipe.send(_failure(job.cell, e))


def _ask(pipe: Connection, block: Block, rows: Rows, images: Tensor) -> None:
    pipe.send((block, rows, images.numpy()))
    refusal = pipe.recv()
    if refusal is not None:
        raise refusal


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def executor(jobs: int, device: str) -> Executor:
    """Return local processes on a CPU, one process on a GPU."""
    return Processes(jobs) if device == "cpu" and jobs > 1 else Inline()
