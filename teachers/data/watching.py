"""While somebody else's library reads a folder: files in it that are no files are not opened."""

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

MOST = 2**30  # bytes of a file that is read whole, without a checksum

_watched: Counter[str] = Counter()  # folders, as absolute paths; changed by the thread that asks for a data set


@contextmanager
def below(folder: Path) -> Iterator[None]:
    """Let Python open only regular files in a folder: others raise OSError, where a pipe would be waited for."""
    _install()
    name = os.path.abspath(folder)
    _watched[name] += 1
    try:
        yield
    finally:
        _watched[name] -= 1


@cache
def _install() -> None:
    sys.addaudithook(_check)  # for good: Python takes none away


def _check(event: str, args: tuple[Any, ...]) -> None:
    if event != "open" or not _watched or not isinstance(args[0], str | bytes | os.PathLike):
        return
    path = os.path.abspath(os.fsdecode(args[0]))
    if not any(count and path.startswith(folder + os.sep) for folder, count in _watched.items()):
        return
    try:
        found = os.stat(path)
    except OSError:
        return  # as whoever opens it will find out
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is no regular file")
    if path.endswith("-ubyte") and found.st_size > MOST:
        raise OSError(f"{path} is larger than {MOST >> 30} GiB")
