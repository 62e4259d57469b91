"""Places that a user names: ~ is a home, whatever the shell has made of it."""

from __future__ import annotations

from pathlib import Path

from teachers.errors import UsageError


def at_home(text: str) -> str:
    """Return what a user named, its ~ or ~USER expanded.

    Raises UsageError where there is no such user; a file that has this very name is taken as it is.
    """
    if not text.startswith("~"):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError as e:  # it knows no other
        if Path(text).exists():
            return text
        first = Path(text).parts[0]
        said = f"{text}: {first} is no home that is known; give the path, or ./{text} for a file of that name"
        raise UsageError(said) from e


def place(text: str | Path) -> Path:
    """Return the path that a user named, its ~ or ~USER expanded; UsageError where there is no such user."""
    return Path(at_home(str(text)))
