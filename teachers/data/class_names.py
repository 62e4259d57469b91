"""The order of a network's outputs, as --classes takes it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from teachers import files
from teachers.errors import RefusedInput
from teachers.files import composed

MOST = 1 << 24  # bytes
DO = "give one class name a line"


def class_names(path: Path) -> tuple[str, ...]:
    """Read a file with one class name per line, in the order of a network's outputs.

    Raises RefusedInput if it cannot be read, is empty, or names a class twice, even with accents encoded differently.
    """
    its = f"--classes: {files.shown(path)}"
    try:
        content = files.content(path, MOST, "one class name a line")
    except RefusedInput as e:
        raise RefusedInput(f"--classes: {e}") from e
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise RefusedInput(f"{its} is not UTF-8 text ({e.reason}); {DO}") from e
    if "\0" in text:
        raise RefusedInput(f"{its} is not UTF-8 text (it holds NUL, as UTF-16 does); {DO}")
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not names:
        raise RefusedInput(f"{its} names no class; {DO}")
    twice = {same for same, times in Counter(map(composed, names)).items() if times > 1}
    if twice:
        first = next(name for name in names if composed(name) in twice)
        raise RefusedInput(f"{its} names {first!r} twice; name each class once")
    return names
