"""The server that workers are forked from."""

from __future__ import annotations

from teachers.processes import forks

NEEDED = (
    "teachers.targets.process",
    "audit.execution.worker_loop",
    "torch._dynamo",  # by the first optimiser
    "torch._inductor",  # by deterministic algorithms
    "scipy.optimize",  # by the search for another order of the classes
)


def ahead() -> None:
    """Let the fork server import what its forks need, while this process does its own imports."""
    forks.prepare(*NEEDED)
