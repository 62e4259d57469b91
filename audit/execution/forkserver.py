"""The server that workers are forked from."""

from __future__ import annotations

from teachers.processes import forks


def ahead() -> None:
    """Let the fork server import what workers need, while this process does its own imports."""
    forks.prepare("teachers.targets.isolation", "torch._dynamo")  # imported by the first optimiser
