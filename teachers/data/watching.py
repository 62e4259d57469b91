"""Stop a library that reads a folder from opening pipes, devices and oversized files in it."""

from __future__ import annotations

import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from teachers import units

MOST = 2**30  # bytes, at most, of a file that torchvision reads whole and without a checksum

_watched: Counter[str] = Counter()  # folders, as absolute paths; changed only by the thread that loads a data set


@contextmanager
def below(folder: Path) -> Iterator[None]:
    """Let Python open only regular files in a folder: others raise OSError, since opening a pipe would wait forever."""
    _install()
    name = os.path.abspath(folder)
    _watched[name] += 1
    try:
        yield
    finally:
        _watched[name] -= 1


@cache
def _install() -> None:
    sys.addaudithook(_check)  # for good: Python cannot remove an audit hook


def _check(event: str, args: tuple[Any, ...]) -> None:
    if event != "open" or not _watched or not isinstance(args[0], str | bytes | os.PathLike):
        return
    path = os.path.abspath(os.fsdecode(args[0]))
    if not any(count and path.startswith(folder + os.sep) for folder, count in _watched.items()):
        return
    try:
        found = os.stat(path)
    except OSError:
        return  # whoever opens it gets the error
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is not a regular file")
    if path.endswith("-ubyte") and found.st_size > MOST:
        raise OSError(f"{path} is larger than {units.size(MOST, 0)}")
