"""The order of a network's outputs, as --classes takes it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from teachers.errors import RefusedInput

MOST = 1 << 24  # bytes


def class_names(path: Path) -> tuple[str, ...]:
    """Read a file of one class name a line, in the order of a network's outputs.

    Raises RefusedInput where it cannot be read, or names none or one twice.
    """
    if not path.is_file():
        raise RefusedInput(f"--classes: there is no file {path}; give one class name a line")
    if path.stat().st_size > MOST:
        raise RefusedInput(f"--classes: {path} is larger than {MOST >> 20} MiB; give one class name a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as e:
        raise RefusedInput(f"--classes: {path} is no UTF-8 text ({e.reason}); give one class name a line") from e
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise RefusedInput(f"--classes: {path} names no class; give one class name a line")
    (twice, times), *_ = Counter(names).most_common(1)
    if times > 1:
        raise RefusedInput(f"--classes: {path} names {twice!r} twice; name each class once")
    return names
