"""Expand ~ in paths that a user gives, in case the shell did not."""

from __future__ import annotations

from pathlib import Path

from teachers.errors import UsageError


def at_home(text: str) -> str:
    """Return a path as text with ~ or ~USER expanded.

    Raises UsageError if there is no such user, unless a file has exactly this name.
    """
    if not text.startswith("~"):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError as e:  # the only error that expanduser raises
        if Path(text).exists():
            return text
        first = Path(text).parts[0]
        said = f"{text}: {first} is not a known home folder; give the path, or ./{text} for a file of that name"
        raise UsageError(said) from e


def place(text: str | Path) -> Path:
    """Return a path with ~ or ~USER expanded; raise UsageError if there is no such user."""
    return Path(at_home(str(text)))
