"""Functions that report progress, one line at a time."""

from __future__ import annotations

from collections.abc import Callable

Note = Callable[[str], None]


def silent(line: str) -> None:
    """Ignore the line."""
