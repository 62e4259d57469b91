"""Remove old entries from a cache, the least recently used first."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ByteSize, TypeAdapter, ValidationError

from audit.cache.entries import OURS, STAGING, Contents, Entry, contents
from audit.cache.listing import inventory
from teachers.errors import RefusedInput, UsageError
from teachers.storage.store import hold

DAY = 86_400.0
MOST_SIZE = 2**63  # bytes
_SIZE: TypeAdapter[ByteSize] = TypeAdapter(ByteSize)


@dataclass(frozen=True)
class PruneSummary:
    """Summary of what a prune removed, or would remove."""

    removed: tuple[Entry, ...]
    left: int  # bytes
    broken: dict[str, str]  # damaged entries, removed or not: what is wrong
    foreign: tuple[str, ...]  # files that no audit wrote, which stay

    @property
    def freed(self) -> int:
        """Freed bytes."""
        return sum(entry.bytes for entry in self.removed)


def prune(root: Path, older_than: float | None = None, max_size: int | None = None, dry: bool = False) -> PruneSummary:
    """Remove entries not used for `older_than` days, then the least recently used until `max_size` bytes are left.

    Leftovers of killed processes are always removed. Looks always stay: they are small, and record the error that was
    spent. Raises RefusedInput where a running command holds the cache, or where it cannot be written.
    """
    found = contents(root)
    with alone(root, dry):
        removed = list(chosen(found, time.time(), older_than, max_size))
        broken = inventory(found).broken
        if not dry:
            for entry in removed:
                entry.path.unlink(missing_ok=True)
            _remove_empty(root)
    return PruneSummary(tuple(removed), found.bytes - sum(e.bytes for e in removed), broken, found.foreign)


def chosen(found: Contents, now: float, older_than: float | None, max_size: int | None) -> Iterator[Entry]:
    """Choose the entries to remove; `now`: seconds since 1970."""
    size = found.bytes
    for entry in sorted(found.entries, key=lambda e: (e.kind != "leftovers", e.used, e.name)):
        old = older_than is not None and now - entry.used > older_than * DAY
        if entry.kind == "leftovers" or (entry.kind != "looks" and (old or (max_size is not None and size > max_size))):
            size -= entry.bytes
            yield entry


@contextmanager
def alone(root: Path, dry: bool) -> Iterator[None]:
    """Lock a cache so that no other audit command has it open; a dry run takes no lock."""
    if dry:
        yield
        return
    try:
        held = hold(root, alone=True)
    except BlockingIOError as e:
        raise RefusedInput(f"the cache {root} is in use by a running audit; prune it when that has ended") from e
    except OSError as e:
        raise RefusedInput(f"the cache {root} cannot be written ({e.strerror}); nothing was removed") from e
    try:
        yield
    finally:
        os.close(held)


def _remove_empty(root: Path) -> None:
    """Remove the cache's folders that hold only lock files."""
    for top in (p for p in root.iterdir() if p.name in OURS or p.name.startswith(STAGING)):
        for folder, _, files in os.walk(top, topdown=False):
            here = Path(folder)
            if any(p.is_dir() or not p.name.endswith(".lock") for p in here.iterdir()):
                continue
            for name in files:
                (here / name).unlink()
            here.rmdir()


def size_of(text: str) -> int:
    """Read a size such as 500MB, 2GB or 1.5GiB, in bytes.

    Raises UsageError.
    """
    try:
        size = _SIZE.validate_python(text.strip())
    except ValidationError:
        size = None
    if size is None or size > MOST_SIZE:
        raise UsageError(f"--max-size {text!r} is not a size; give a number and a unit, such as 500MB or 2GB")
    return size
