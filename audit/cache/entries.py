"""The files of a cache: each one's kind and time of last use, and files that no audit wrote."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from teachers.errors import RefusedInput

Kind = Literal["students", "teachers", "answers", "looks", "unfinished", "pools", "data", "damaged", "leftovers"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
CARRIED: Final[tuple[Kind, ...]] = ("students", "teachers", "answers", "looks")  # portable between machines

_LAYOUT: Final[dict[Kind, str]] = {
    "students": r"cells/([0-9a-f]{2})/\1[0-9a-f]{62}\.json",
    "teachers": r"teachers/[0-9a-f]{32}\.safetensors",
    "answers": r"answers/[0-9a-f]{1,32}/[0-9A-Za-z][0-9A-Za-z.+_-]{0,99}/([0-9a-z][0-9a-z-]{0,99}\.npz|output)",
    "looks": r"looks/[0-9a-f]{64}\.json",
    "unfinished": r"teachers/[0-9a-f]{32}\.part",  # interrupted teacher training
    "pools": r"pools/[0-9a-f]{64}\.npz",
    "data": r"data/[0-9a-f]{32}/images\.npy",
    "damaged": r"damaged/[^/]+",  # entries that were set aside
    # Files that a killed process was writing; nothing reads files with such names.
    "leftovers": r"(.+/)?\.[^/]+\.[0-9]+\.tmp|data/[0-9a-f]{32}/images\.[0-9]+(\.gray)?|\.import-[^/]+/.+",
}
OURS: Final = ("answers", "cells", "damaged", "data", "looks", "pools", "teachers")  # folders
STAGING: Final = ".import-"  # prefix of the folder that an import unpacks to
# Lock files, the write test, and the second copies of looks.
_BOOKKEEPING: Final = re.compile(r"(.+/)?(\.lock|[^/]+\.lock)|\.writable|looks/[0-9a-f]{64}\.copy")


@dataclass(frozen=True)
class Entry:
    """One file of the cache."""

    kind: Kind
    name: str  # relative to the cache, with /
    path: Path
    bytes: int
    used: float  # seconds since 1970


@dataclass(frozen=True)
class Contents:
    """All files of a cache, sorted by name, bookkeeping apart."""

    root: Path
    entries: tuple[Entry, ...]
    foreign: tuple[str, ...]  # names of files that no audit writes

    @property
    def bytes(self) -> int:
        """Bytes of all entries."""
        return sum(entry.bytes for entry in self.entries)


def kind_of(name: str) -> Kind | None:
    """Return the kind of a file by its name in the cache; None where the name does not fit the cache's layout."""
    return next((kind for kind, pattern in _LAYOUT.items() if re.fullmatch(pattern, name)), None)


def contents(root: Path) -> Contents:
    """List a cache without reading its files; links, pipes and devices count as foreign.

    Raises RefusedInput where there is no cache.
    """
    if not root.is_dir():
        raise RefusedInput(f"there is no cache at {root}; give the folder with --cache")
    entries, foreign = [], []
    for path in _files(root):
        name = path.relative_to(root).as_posix()
        try:
            found = path.lstat()
        except OSError:  # a running audit has just renamed it, or permission is missing
            continue
        regular = stat.S_ISREG(found.st_mode)
        kind = kind_of(name) if regular else None
        if kind is not None:
            entries.append(Entry(kind, name, path, found.st_size, found.st_mtime))
        elif not regular or not _BOOKKEEPING.fullmatch(name):
            foreign.append(name)
    return Contents(root, tuple(sorted(entries, key=lambda e: e.name)), tuple(sorted(foreign)))


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        odd = [name for name in folders if (Path(folder) / name).is_symlink() or _read(Path(folder, name), root)]
        yield from (Path(folder) / name for name in (*files, *odd))


def _read(path: Path, root: Path) -> bool:
    """Whether an audit reads files with this name."""
    return kind_of(path.relative_to(root).as_posix()) not in (None, "damaged", "leftovers")
