"""The folder of an audit: claimed by one process, finished once, looked at and counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from audit.store import Cache
from audit.verdict import level_of
from reports import record as records
from reports.record import Look, Record
from teachers.errors import RefusedInput, UsageError


def refuse_file(folder: Path | None) -> None:
    """Stop, before anything is trained, where --out is no folder."""
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file; give a folder")


@contextmanager
def claimed(folder: Path, note: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder for this process; a second audit waits for the first."""
    refuse_file(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            note(f"another audit is writing {folder}; waiting for it")
            lock.acquire()
    except OSError as e:
        raise RefusedInput(f"{folder} cannot be written ({e.strerror}); give another with --out") from e
    try:
        yield
    finally:
        lock.release()


def already(folder: Path, identity: str) -> Record | None:
    """Return the finished record of this very audit, if the folder holds it and no attack failed in it.

    Raises UsageError where it holds another audit, finished or begun.
    """
    marker = folder / "audit.id"
    if marker.exists() and marker.read_text().strip() != identity:
        raise UsageError(f"{folder} holds another audit; give another folder with --out, or remove it")
    path = folder / "record.json"
    if not path.exists():
        records.write_whole(marker, identity.encode())
        return None
    try:
        found = records.load(path)
    except records.RecordError:
        return None
    if found.audit != identity:
        raise UsageError(f"{folder} holds another audit; give another folder with --out, or remove it")
    return None if any(row.status == "failed" for row in found.comparisons) else found


def take_look(cache: Cache, question: str, seeds: int) -> Look:
    """Count this look at a question: adding seeds after having looked spends error.

    The same number of seeds again is the same look, and spends nothing.
    """
    path = cache.looks(question)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        looked = json.loads(path.read_text()) if path.exists() else []
        if seeds not in looked:
            looked = [*looked, seeds]
            records.write_whole(path, json.dumps(looked).encode())
    number = looked.index(seeds) + 1
    return Look(number=number, alpha=level_of(number), seeds=tuple(looked[:number]))
