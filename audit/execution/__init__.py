"""Where cells run: the cache, the door to the teacher, and processes on both sides of it."""

from teachers.processes import forks


def ahead() -> None:
    """Let a server of processes import what workers need, while this process imports what it needs itself."""
    forks.prepare("teachers.targets.isolation", "torch._dynamo")  # which the first optimiser imports
