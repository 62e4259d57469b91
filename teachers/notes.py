"""One line to whoever wants to hear what is being done."""

from __future__ import annotations

from collections.abc import Callable

Note = Callable[[str], None]


def silent(line: str) -> None:
    """Tell nobody."""
