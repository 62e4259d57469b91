"""Cells in local processes of one thread each, started once and fed one cell at a time."""

from __future__ import annotations

import gc
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from audit.execution import pipes
from audit.execution.cells import Failure, Result
from audit.execution.door import Door
from audit.execution.measure import Doors, Exams, measure
from audit.execution.pipes import Arrays, PipeError
from audit.execution.store import Rows
from audit.execution.worker import Job, Trained, failure, train
from teachers import forks
from teachers.errors import AuditError, BudgetExceeded, RefusedInput, UsageError
from teachers.surface import Answers
from teachers.training import Report
from teachers.views import ViewSet

REFUSALS = {error.__name__: error for error in (BudgetExceeded, UsageError, RefusedInput, ValueError, PermissionError)}


class Processes:
    """Run cells in local processes of one thread each, started once and fed one cell at a time."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._crew: list[_Worker] = []

    def run(self, jobs: Sequence[Job], doors: Doors, exams: Exams) -> Iterator[Result | Failure]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        while len(self._crew) < min(self._workers, len(jobs)):
            self._crew.append(_Worker())
        try:
            yield from self._feed(self._crew, deque(jobs), doors, exams)
        finally:
            torch.set_num_threads(threads)

    def close(self) -> None:
        for worker in self._crew:
            worker.stop()
        self._crew = []

    def _feed(self, crew: list[_Worker], queue: deque[Job], doors: Doors, exams: Exams) -> Iterator[Result | Failure]:
        for worker in crew:
            worker.give(queue, doors)
        while busy := {worker.pipe: worker for worker in crew if worker.job is not None}:
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]  # wait() returns the connections it was given
                outcome = worker.hear(exams)
                if outcome is not None:
                    worker.give(queue, doors)
                    yield outcome


class _Worker:
    """A process, the job that it has in hand, and the door that the job may ask at."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.door: Door | None = None
        self.pipe: Connection
        self._process: BaseProcess
        self._start()

    def _start(self) -> None:
        self.pipe, theirs = forks.CONTEXT.Pipe()
        self._process = forks.start(_work, theirs)
        theirs.close()

    def give(self, queue: deque[Job], doors: Doors) -> None:
        """Give it the next job."""
        self.job = queue.popleft() if queue else None
        if self.job is not None:
            self.door = doors(self.job.cell)
            pipes.send(self.pipe, {"job": self.job.model_dump(mode="json"), "door": self.door is not None})

    def hear(self, exams: Exams) -> Result | Failure | None:
        """Hear what it says: answer a question, or return how its job came to an end."""
        assert self.job is not None
        cell = self.job.cell
        try:
            header, arrays = pipes.receive(self.pipe)
            if header.get("say") == "ask":
                self._answer(header, arrays)
                return None
            return _ended(self.job, header, arrays, self.door, exams)
        except (EOFError, ConnectionError):
            self.restart()
            return Failure(cell=cell, sentence="its process died (out of memory?)")
        except PipeError as e:
            self.restart()
            return Failure(cell=cell, sentence=f"its process sent what is no message ({e})")

    def _answer(self, header: dict[str, Any], arrays: Arrays) -> None:
        try:
            message = pipes.told(_asked(self.door, header, arrays))
        except (AuditError, ValueError, PermissionError) as e:
            name = next((n for n, kind in REFUSALS.items() if isinstance(e, kind)), UsageError.__name__)
            message = {"refused": name, "sentence": str(e)}, {}
        pipes.send(self.pipe, *message)

    def restart(self) -> None:
        """Start afresh, whatever state it is in."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """End it."""
        self.pipe.close()
        self._process.kill()
        self._process.join()


def _asked(door: Door | None, header: dict[str, Any], arrays: Arrays) -> Answers:
    if door is None:
        raise PermissionError("a control is handed no oracle")
    try:
        if "kind" in header:
            views = ViewSet(header["kind"], int(header["count"]))
            return door.views(str(header["pool"]), views, arrays["index"].astype(np.int64))
        return door.images(torch.from_numpy(arrays["images"]), estimate=header.get("estimate") is True)
    except (KeyError, TypeError) as e:
        raise ValueError(f"no question: {e}") from e


def _ended(job: Job, header: dict[str, Any], arrays: Arrays, door: Door | None, exams: Exams) -> Result | Failure:
    """Measure a student that came back, or say why none did; nothing of it is taken on trust."""
    try:
        if header.get("say") == "failed":
            return Failure(cell=job.cell, **header["failure"])
        report = TypeAdapter(Report).validate_python(header["report"])
        return measure(job.cell, Trained(dict(arrays), report), door, exams, job.classes)
    except (KeyError, TypeError, ValidationError) as e:
        return Failure(cell=job.cell, sentence=f"its process sent no student ({type(e).__name__}: {e})")
    except Exception as e:  # a stranger's network may raise anything when it answers
        return failure(job.cell, e)


class _Line:
    """The door, from a worker's side."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def views(self, pool: str, views: ViewSet, index: Rows) -> Answers:
        return self._ask({"pool": pool, "kind": views.kind, "count": views.count}, {"index": index})

    def images(self, images: Tensor, estimate: bool = False) -> Answers:
        return self._ask({"estimate": estimate}, {"images": images.numpy()})

    def _ask(self, question: dict[str, Any], arrays: Arrays) -> Answers:
        pipes.send(self._pipe, {"say": "ask", **question}, arrays)
        header, answers = pipes.receive(self._pipe)
        if "refused" in header:
            raise REFUSALS[header["refused"]](header["sentence"])
        return pipes.heard(header, answers)


def _work(pipe: Connection) -> None:
    """Train what comes through the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=forks.die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    gc.freeze()  # what the server imported is never looked through
    while True:
        try:
            header, _ = pipes.receive(pipe)
        except (EOFError, OSError):
            return
        job = Job.model_validate(header["job"])
        try:
            trained = train(job, _Line(pipe) if header["door"] else None)
            message = {"say": "trained", "report": asdict(trained.report)}, trained.weights
        except (BrokenPipeError, ConnectionResetError):
            return
        # An attack may be a stranger's: whatever it raises is a failed attack, never a pass.
        except (Exception, SystemExit) as e:
            message = {"say": "failed", "failure": _told(failure(job.cell, e))}, {}
        try:
            pipes.send(pipe, *message)
        except (BrokenPipeError, ConnectionResetError):
            return
        gc.collect()  # a cell finds nothing of the one before


def _told(failed: Failure) -> dict[str, Any]:
    return failed.model_dump(include={"sentence", "trace", "code"})
