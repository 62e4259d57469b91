"""Executors take jobs and return trained students' answers as plain data; no other module knows where cells run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Protocol

from audit.execution.cards import Card
from audit.execution.measure import EvalSplits, Oracles, measure
from audit.execution.metering import MeteredOracle
from audit.execution.processes import Processes
from audit.execution.threads import one_thread
from audit.execution.worker import Job, failure, train
from audit.plan.cells import Failure, Result
from audit.plan.engines import LOCAL
from reports.record import Engine
from teachers.notes import Note, silent


class Executor(Protocol):
    """Interface of executors."""

    nodes: dict[str, str]  # by key of a cell: the node that trained its student, where that is not this machine

    @property
    def workers(self) -> int:
        """Number of students that are trained at once."""
        ...

    @property
    def engine(self) -> Engine | None:
        """What a record keeps of a cluster; None for this machine alone."""
        ...

    def run(self, jobs: Sequence[Job], doors: Oracles, eval_splits: EvalSplits) -> Iterator[Result | Failure]:
        """Train and measure every job, in any order."""
        ...

    def close(self) -> None:
        """Release processes and other resources."""
        ...


class Inline:
    """Run cells one after the other in this process; plug-in code gets a process of its own."""

    workers, engine = 1, None

    def __init__(self, timeout: float | None = None) -> None:
        self.nodes: dict[str, str] = {}
        self._apart = Processes(1, timeout)

    def run(self, jobs: Sequence[Job], doors: Oracles, eval_splits: EvalSplits) -> Iterator[Result | Failure]:
        with one_thread():
            for job in jobs:
                if not job.owner:
                    yield self._one(job, doors(job.cell), eval_splits)
        yield from self._apart.run([job for job in jobs if job.owner], doors, eval_splits)

    def close(self) -> None:
        self._apart.close()

    def _one(self, job: Job, door: MeteredOracle | None, eval_splits: EvalSplits) -> Result | Failure:
        try:
            return measure(job.cell, train(job, door), door, eval_splits, job.classes)
        # An attack may be plug-in code: whatever it raises is a failed attack, never an attack survived.
        except (Exception, SystemExit) as e:
            return failure(job.cell, e)


def executor(
    jobs: int | None,
    device: str,
    *,
    isolated: bool = False,
    timeout: float | None = None,
    engine: str = LOCAL,
    note: Note = silent,
) -> Executor:
    """Return the executor: several processes, on a card as many as fit; with `jobs` 1 this one, unless `isolated`.

    With another engine, a cluster's: `jobs` slots. Where `jobs` is None, all cores or all slots are used. A worker that
    sends nothing for `timeout` seconds is ended; None: a limit that follows from its number of steps. Raises UsageError
    where there is no cluster.
    """
    if engine != LOCAL:
        from audit.execution.cluster.connection import Cluster
        from audit.execution.cluster.executor import ClusterExecutor

        return ClusterExecutor(Cluster(engine, jobs, device), jobs, timeout, note)
    if device == "cuda" and jobs != 1:
        return Processes(1, timeout, Card.here(jobs, note))
    jobs = (os.cpu_count() or 1) if jobs is None else jobs
    if jobs > 1:
        return Processes(jobs, timeout)
    return Processes(1, timeout) if isolated else Inline(timeout)
