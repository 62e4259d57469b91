"""Executors take jobs and return trained students' answers as plain data; no other module knows where cells run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from audit.execution.measure import EvalSplits, Oracles, measure
from audit.execution.metering import MeteredOracle
from audit.execution.processes import Processes
from audit.execution.threads import one_thread
from audit.execution.worker import Job, failure, train
from audit.plan.cells import Failure, Result


class Executor(Protocol):
    """Interface of executors; one for a cluster would implement it, too."""

    def run(self, jobs: Sequence[Job], doors: Oracles, eval_splits: EvalSplits) -> Iterator[Result | Failure]:
        """Train and measure every job, in any order."""
        ...

    def close(self) -> None:
        """Release processes and other resources."""
        ...


class Inline:
    """Run cells one after the other in this process (for a GPU and for tests); plug-in code gets its own process."""

    def __init__(self, timeout: float | None = None) -> None:
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


def executor(jobs: int, device: str, *, isolated: bool = False, timeout: float | None = None) -> Executor:
    """Return the executor: several processes on a CPU; one on a GPU, which is this process unless `isolated`.

    A worker that sends nothing for `timeout` seconds is ended; None: a limit that follows from its number of steps.
    """
    if device == "cpu" and jobs > 1:
        return Processes(jobs, timeout)
    return Processes(1, timeout) if isolated else Inline(timeout)
