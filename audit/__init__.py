"""What the user runs: from a checkpoint to a verdict."""

__version__ = "0.1.0"
