"""Names that come with the tool, where a file of the user's has the same one."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from teachers.errors import UsageError
from teachers.files import shown

EMBEDDED = "embedded:"  # begins what can only be meant as a name that comes with the tool
WRITTEN = ("audit.id", "journal.jsonl", "record.json", "cmi.json", "surfaces", ".lock")  # in the folder of an audit


def meant(given: str, ours: Container[str], what: str) -> str:
    """Return what a word on the command line names: with `embedded:` what comes with the tool, else as it is.

    Raises UsageError where both a name of ours and a file may be meant, and where there is no such name of ours.
    """
    if given.startswith(EMBEDDED):
        name = given.removeprefix(EMBEDDED)
        if name not in ours:
            raise UsageError(f"no {what} called {shown(name)!r} comes with the tool; see `audit ls`")
        return name
    if given in ours and _is_users(Path(given)):
        raise UsageError(
            f"{given} is the name of a built-in {what} and of a file or folder here; "
            f"give {EMBEDDED}{given} or ./{given}"
        )
    return given


def _is_users(path: Path) -> bool:
    """Whether something lies there that is no folder of an audit, which may well be called like its teacher."""
    if not path.is_symlink() and not path.exists():
        return False
    return not path.is_dir() or not any((path / name).exists() for name in WRITTEN)
