"""Where cells run: the trial runner, the metered oracle, and worker processes."""

from audit.execution.forkserver import ahead

__all__ = ["ahead"]
