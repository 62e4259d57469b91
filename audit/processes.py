"""Cells in local processes of one thread each, started once and fed one cell at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import numpy as np
import torch
from torch import Tensor

from audit.cells import Cell, Failure, Result
from audit.measure import Exams, Serve, measure
from audit.store import Rows
from audit.worker import Block, Job, Trained, failure, train
from teachers.errors import AuditError


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
                    if isinstance(message, tuple):
                        worker.pipe.send(_served(serve, job.cell, *message))
                        continue
                except (EOFError, ConnectionError):
                    message = Failure(cell=job.cell, sentence="its process died (out of memory?)")
                    worker.restart()
                worker.give(queue)
                yield message if isinstance(message, Failure) else _measured(job, message, exams)


def _measured(job: Job, trained: Trained, exams: Exams) -> Result | Failure:
    try:
        return measure(job.cell, trained, exams, job.classes)
    except Exception as e:  # a stranger's network may raise anything when it answers
        return failure(job.cell, e)


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
        # An attack may be a stranger's: whatever it raises is a failed attack, never a pass.
        except (Exception, SystemExit) as e:
            pipe.send(failure(job.cell, e))


def _ask(pipe: Connection, block: Block, rows: Rows, images: Tensor) -> None:
    pipe.send((block, rows, images.numpy()))
    refusal = pipe.recv()
    if refusal is not None:
        raise refusal


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
