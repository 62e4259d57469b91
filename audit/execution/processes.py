"""Run cells in local worker processes.

A process in which a plug-in's code has run is used for that plug-in's code only.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from audit.execution import worker_messages
from audit.execution.cards import Sharing
from audit.execution.measure import EvalSplits, ForeignStudent, Oracles, heard, measure
from audit.execution.message_limits import room
from audit.execution.metering import MeteredOracle
from audit.execution.threads import one_thread
from audit.execution.worker import Job, TrainingOutcome
from audit.execution.worker_loop import work
from audit.execution.worker_messages import AskImages, AskViews, Breakdown, Student
from audit.plan.cells import Failure, Result
from teachers import kinds
from teachers.errors import AuditError
from teachers.networks import Shape
from teachers.processes import frames, limits, messages, pipes, trees
from teachers.processes.pipes import Arrays, PipeError, Silence
from teachers.views import ViewSet

TRIES = 3  # attempts at a built-in technique's cell whose worker is killed
LONGEST = 24  # a plug-in's cell may take this multiple of the silence limit in all
DIED = "its process died (out of memory?)"


class Processes:
    """Executor with local single-threaded processes, which start once and get one cell at a time.

    A worker that sends nothing for `timeout` seconds is ended; None: a limit that follows from its number of steps.
    """

    engine = None

    def __init__(self, workers: int, timeout: float | None = None, card: Sharing | None = None) -> None:
        """`card`: on which all workers train; it says how many of them may at a time."""
        self._most, self._timeout, self._card = workers, timeout, card
        self.nodes: dict[str, str] = {}
        self._crew: list[_Worker] = []

    @property
    def workers(self) -> int:
        """Number of students that are trained at once."""
        return self._most if self._card is None else self._card.students

    def run(self, jobs: Sequence[Job], doors: Oracles, eval_splits: EvalSplits) -> Iterator[Result | Failure]:
        with one_thread():
            yield from self._feed(deque(jobs), doors, eval_splits)

    def close(self) -> None:
        for worker in self._crew:
            worker.stop()
        self._crew = []

    def _feed(self, queue: deque[Job], doors: Oracles, eval_splits: EvalSplits) -> Iterator[Result | Failure]:
        tries: Counter[str] = Counter()
        self._call(queue, doors)
        while busy := [worker for worker in self._crew if worker.job is not None]:
            began = time.monotonic()
            ready = wait([worker.pipe for worker in busy], min(worker.patience for worker in busy))
            waited = time.monotonic() - began
            for worker in busy:
                job, outcome = worker.job, worker.listen(waited, worker.pipe in ready, eval_splits["validation"].shape)
                if outcome is None or job is None:
                    continue
                worker.job = None
                tries[job.cell.key] += 1
                again = isinstance(outcome, Loss) and not job.owner and tries[job.cell.key] < TRIES
                if self._card is not None and isinstance(outcome, Trained):
                    self._card.hold(outcome.outcome.report.memory)
                if isinstance(outcome, Crowded):
                    again = self._card is not None and self._card.full()
                if again:
                    queue.appendleft(job)
                self._call(queue, doors)  # before its student is measured, which takes a while
                if isinstance(outcome, Trained):
                    yield outcome.measured(eval_splits)
                elif not again:
                    yield outcome.failure if isinstance(outcome, Loss | Crowded) else outcome

    def _call(self, queue: deque[Job], doors: Oracles) -> None:
        """Give students to workers, as many as may train at once."""
        busy = sum(worker.job is not None for worker in self._crew)
        while queue and busy < self.workers:
            free = [worker for worker in self._crew if worker.job is None]
            if not free:
                free = [_Worker(self._timeout)]
                self._crew += free
            chosen = next((worker for worker in free if worker.suits(queue)), free[0])
            chosen.give(queue, doors)
            busy += 1


@dataclass(frozen=True)
class Loss:
    """A job whose worker was killed or stopped from outside; it becomes a failure if it is not tried again."""

    failure: Failure


@dataclass(frozen=True)
class Crowded:
    """A job that found no memory on the card; it becomes a failure if it is not tried again beside fewer."""

    failure: Failure


@dataclass(frozen=True)
class Trained:
    """A student that a worker sent, and the oracle that taught it."""

    job: Job
    outcome: TrainingOutcome
    door: MeteredOracle | None

    def measured(self, eval_splits: EvalSplits) -> Result | Failure:
        """Return what the student answers."""
        try:
            return measure(self.job.cell, self.outcome, self.door, eval_splits, self.job.classes)
        except PipeError as e:
            return Failure(cell=self.job.cell, sentence=_invalid(e))
        except ForeignStudent as e:
            return Failure(cell=self.job.cell, sentence=str(e))


Outcome = Trained | Failure | Loss | Crowded | None  # None: the job is still running


def _invalid(error: PipeError) -> str:
    return f"its process sent an invalid message ({error})"


class _Worker:
    """A worker process, its current job, and the metered oracle of that job."""

    def __init__(self, timeout: float | None) -> None:
        self.job: Job | None = None
        self.pipe: Connection
        self._door: MeteredOracle | None = None
        self._timeout = timeout
        self._process: BaseProcess | None = None
        self._owner = ""  # the distribution whose code has run in the process
        self._silent, self._spent = 0.0, 0.0  # seconds of this job, counted while the parent was waiting

    def give(self, queue: deque[Job], doors: Oracles) -> None:
        """Send the next job: one of the same owner if there is one, else any other one in a new process."""
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
        with suppress(ConnectionError, Silence):  # `listen` notices it
            given = {"job": self.job.model_dump(mode="json"), "door": self._door is not None}
            pipes.send(self.pipe, given, seconds=0)

    def suits(self, queue: deque[Job]) -> bool:
        """Whether some job is of the owner whose code has run in this process."""
        return any(job.owner == self._owner for job in queue)

    def _start(self, job: Job) -> None:
        # A GPU driver reserves more address space than it uses, so there is no limit on GPUs.
        memory = 0 if job.cell.device != "cpu" else limits.spare() // (2 if job.owner else 1)
        self._owner = job.owner
        self.pipe, theirs = frames.pair()
        self._process = trees.start(work, theirs, memory)
        theirs.close()

    def stop(self) -> None:
        """End the process and all processes that it started."""
        if self._process is not None:
            self.pipe.close()
            trees.end(self._process)
            self._process = None

    @property
    def _allowed(self) -> float:
        """Seconds of silence that are allowed: the timeout, or by default half an hour and one second per step."""
        assert self.job is not None
        return self._timeout or 1800.0 + int(self.job.cell.recipe["steps"])

    @property
    def patience(self) -> float:
        """Seconds of silence that are left, at most what the operating system can wait for."""
        return min(frames.WEEKS, max(0.0, self._allowed - self._silent))

    def listen(self, waited: float, ready: bool, shape: Shape) -> Outcome:
        """Read the worker's message after `waited` seconds of waiting, or note its silence.

        Answers a query; returns the outcome once the job has ended. Time that the parent spends elsewhere does not
        count. `shape`: of an image.
        """
        assert self.job is not None
        self._silent, self._spent = 0.0 if ready else self._silent + waited, self._spent + waited
        if self._silent >= self._allowed:
            return self._late(f"sent no message for {self._allowed:,.0f} s")
        if self.job.owner and self._spent >= LONGEST * self._allowed:
            return self._late(f"did not finish in {LONGEST * self._allowed:,.0f} s")
        return self._hear(self.job, shape) if ready else None

    def _late(self, what: str) -> Outcome:
        return self._lose(f"its process {what} and was ended; raise --cell-timeout if it needs longer")

    def _lose(self, sentence: str) -> Outcome:
        assert self.job is not None
        failed = Failure(cell=self.job.cell, sentence=sentence)
        held = self._process is not None and trees.stopped(self._process)
        self.stop()
        return Loss(failed) if held else failed

    def _hear(self, job: Job, shape: Shape) -> Outcome:
        try:
            header, arrays = pipes.receive(self.pipe, lambda header: room(job, shape, header))
            said = worker_messages.word(header)
            if isinstance(said, AskViews | AskImages):
                self._answer(job, said, arrays, shape)
            if isinstance(said, Student):
                return Trained(job, heard(arrays, said.report), self._door)
            if not isinstance(said, Breakdown):
                return None
            told = Failure(cell=job.cell, **said.failure.model_dump(exclude={"crowded"}))
            return Crowded(told) if said.failure.crowded else told
        except (EOFError, ConnectionError):
            self.stop()
            return Loss(Failure(cell=job.cell, sentence=DIED))
        except PipeError as e:
            return self._lose(_invalid(e))

    def _answer(self, job: Job, asked: AskViews | AskImages, arrays: Arrays, shape: Shape) -> None:
        if isinstance(asked, AskViews):
            index = messages.one(arrays, "index", "int64", (None,), least=0)
        else:
            images = torch.from_numpy(messages.one(arrays, "images", "float32", (None, *shape)))
        file = None
        try:
            if self._door is None:
                raise PermissionError("a control may not query a teacher")
            if isinstance(asked, AskImages):
                message = messages.told(self._door.images(images, estimate=asked.estimate))
            else:
                sets = [ViewSet(one.kind, one.count) for one in asked.sets]
                numbers = job.classes + (math.prod(shape) if kinds.kind(job.cell.surface or "") == "gradients" else 0)
                _refuse_too_many(sum(one.count for one in sets) * len(index), numbers, self._door.files.room)
                file = self._door.file(asked.pool, sets, index)
                message = file.form.model_dump(), {}
        except (AuditError, ValueError, PermissionError) as e:
            message = messages.refusal(e), {}
        pipes.send(self.pipe, *message, seconds=0, file=None if file is None else file.handle)


def _refuse_too_many(answers: int, numbers: int, room: int) -> None:
    """Raise ValueError if answers of so many numbers each do not fit twice in `room`: they are stored, then joined."""
    if 4 * answers * numbers > room // 2:
        raise ValueError(f"{answers:,} answers at once do not fit on the disk of the cache; query in parts")
