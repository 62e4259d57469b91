"""Cells in local processes of one thread each, started once and fed one cell at a time.

What a stranger's code has run in runs nothing but that stranger's code afterwards.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from audit.execution import worker_messages
from audit.execution.measure import EvalSplits, ForeignStudent, Oracles, heard, measure
from audit.execution.message_limits import room
from audit.execution.metering import MeteredOracle
from audit.execution.worker import Job
from audit.execution.worker_loop import work
from audit.execution.worker_messages import AskImages, AskViews, Breakdown, Student
from audit.plan.cells import Failure, Result
from teachers.errors import AuditError
from teachers.networks import Shape
from teachers.processes import frames, limits, messages, pipes, trees
from teachers.processes.pipes import Arrays, PipeError, Silence
from teachers.views import ViewSet

TRIES = 3  # of a cell of ours whose worker is killed
LONGEST = 24  # times the silence that is allowed: what a stranger's cell may take in all
DIED = "its process died (out of memory?)"


class Processes:
    """Run cells in local processes of one thread each, started once and fed one cell at a time.

    A worker that says nothing for `timeout` seconds is ended; None: by the steps that it is to train.
    """

    def __init__(self, workers: int, timeout: float | None = None) -> None:
        self._workers, self._timeout = workers, timeout
        self._crew: list[_Worker] = []

    def run(self, jobs: Sequence[Job], doors: Oracles, eval_splits: EvalSplits) -> Iterator[Result | Failure]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        while len(self._crew) < min(self._workers, len(jobs)):
            self._crew.append(_Worker(self._timeout))
        try:
            yield from self._feed(deque(jobs), doors, eval_splits)
        finally:
            torch.set_num_threads(threads)

    def close(self) -> None:
        for worker in self._crew:
            worker.stop()
        self._crew = []

    def _feed(self, queue: deque[Job], doors: Oracles, eval_splits: EvalSplits) -> Iterator[Result | Failure]:
        tries: Counter[str] = Counter()
        for worker in self._crew:
            worker.give(queue, doors)
        while busy := [worker for worker in self._crew if worker.job is not None]:
            began = time.monotonic()
            ready = wait([worker.pipe for worker in busy], min(worker.patience for worker in busy))
            waited = time.monotonic() - began
            for worker in busy:
                job, outcome = worker.job, worker.listen(waited, worker.pipe in ready, eval_splits)
                if outcome is None or job is None:
                    continue
                tries[job.cell.key] += 1
                again = isinstance(outcome, Loss) and not job.owner and tries[job.cell.key] < TRIES
                if again:
                    queue.appendleft(job)
                worker.give(queue, doors)
                if not again:
                    yield outcome.failure if isinstance(outcome, Loss) else outcome


@dataclass(frozen=True)
class Loss:
    """A job whose worker was killed, or stopped, from outside; told as a failure where it is not tried again."""

    failure: Failure


Outcome = Result | Failure | Loss | None  # None: it goes on


class _Worker:
    """A process, the job that it has in hand, and the door that the job may ask at."""

    def __init__(self, timeout: float | None) -> None:
        self.job: Job | None = None
        self.pipe: Connection
        self._door: MeteredOracle | None = None
        self._timeout = timeout
        self._process: BaseProcess | None = None
        self._owner = ""  # whose code has run in the process
        self._silent, self._spent = 0.0, 0.0  # seconds of this job, while we listened

    def give(self, queue: deque[Job], doors: Oracles) -> None:
        """Give it the next job: one of the same code, if there is one, else any other in a fresh process."""
        own = (job for job in queue if job.owner == self._owner)
        self.job = next(own, queue[0]) if queue else None
        if self.job is None:
            return
        queue.remove(self.job)
        if self._process is None or self.job.owner != self._owner:
            self.stop()
            self._start(self.job)
        self._door = doors(self.job.cell)
        self._silent, self._spent = 0.0, 0.0
        with suppress(ConnectionError, Silence):  # noticed when it is listened to
            given = {"job": self.job.model_dump(mode="json"), "door": self._door is not None}
            pipes.send(self.pipe, given, seconds=0)

    def _start(self, job: Job) -> None:
        # A GPU's driver reserves more than it uses: no limit there.
        memory = 0 if job.cell.device != "cpu" else limits.spare() // (2 if job.owner else 1)
        self._owner = job.owner
        self.pipe, theirs = frames.pair()
        self._process = trees.start(work, theirs, memory)
        theirs.close()

    def stop(self) -> None:
        """End it, and all that it started."""
        if self._process is not None:
            self.pipe.close()
            trees.end(self._process)
            self._process = None

    @property
    def _allowed(self) -> float:
        """Seconds of silence: what was asked for, or what one step in a second would leave plenty of."""
        assert self.job is not None
        return self._timeout or 1800.0 + int(self.job.cell.recipe["steps"])

    @property
    def patience(self) -> float:
        """Seconds that it may go on being silent; of very many a part, for the system counts no further."""
        return min(frames.WEEKS, max(0.0, self._allowed - self._silent))

    def listen(self, waited: float, ready: bool, eval_splits: EvalSplits) -> Outcome:
        """Hear what it says after so many seconds in which we listened, or that it says nothing.

        Answers a question; returns how its job came to an end. Time in which we do something else does not count.
        """
        assert self.job is not None
        self._silent, self._spent = 0.0 if ready else self._silent + waited, self._spent + waited
        if self._silent >= self._allowed:
            return self._late(f"said nothing for {self._allowed:,.0f} s")
        if self.job.owner and self._spent >= LONGEST * self._allowed:
            return self._late(f"did not come to an end in {LONGEST * self._allowed:,.0f} s")
        return self._hear(self.job, eval_splits) if ready else None

    def _late(self, what: str) -> Outcome:
        return self._lose(f"its process {what} and was ended; raise --cell-timeout if it needs longer")

    def _lose(self, sentence: str) -> Outcome:
        assert self.job is not None
        failed = Failure(cell=self.job.cell, sentence=sentence)
        held = self._process is not None and trees.stopped(self._process)
        self.stop()
        return Loss(failed) if held else failed

    def _hear(self, job: Job, eval_splits: EvalSplits) -> Outcome:
        shape = eval_splits["validation"].shape
        try:
            header, arrays = pipes.receive(self.pipe, lambda header: room(job, shape, header))
            said = worker_messages.word(header)
            if isinstance(said, AskViews | AskImages):
                self._answer(job, said, arrays, shape)
            if isinstance(said, Student):
                return measure(job.cell, heard(arrays, said.report), self._door, eval_splits, job.classes)
            return Failure(cell=job.cell, **said.failure.model_dump()) if isinstance(said, Breakdown) else None
        except (EOFError, ConnectionError):
            self.stop()
            return Loss(Failure(cell=job.cell, sentence=DIED))
        except PipeError as e:
            return self._lose(f"its process sent what is no message ({e})")
        except ForeignStudent as e:
            return Failure(cell=job.cell, sentence=str(e))

    def _answer(self, job: Job, asked: AskViews | AskImages, arrays: Arrays, shape: Shape) -> None:
        if isinstance(asked, AskViews):
            index = messages.one(arrays, "index", "int64", (None,), least=0)
        else:
            images = torch.from_numpy(messages.one(arrays, "images", "float32", (None, *shape)))
        try:
            if self._door is None:
                raise PermissionError("a control is handed no oracle")
            if isinstance(asked, AskImages):
                answers = self._door.images(images, estimate=asked.estimate)
            else:
                _refuse_too_many(asked.count * len(index), job.classes)
                answers = self._door.views(asked.pool, ViewSet(asked.kind, asked.count), index)
            message = messages.told(answers)
        except (AuditError, ValueError, PermissionError) as e:
            message = messages.refusal(e), {}
        pipes.send(self.pipe, *message, seconds=0)


def _refuse_too_many(answers: int, classes: int) -> None:
    if not answers:
        raise ValueError("the question is about no images")
    if 4 * answers * classes > limits.spare() // 2:
        raise ValueError(f"{answers:,} answers at once do not fit this machine's memory; ask in parts")
