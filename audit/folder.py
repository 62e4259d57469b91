"""The folder of an audit: claimed by one process, finished once, looked at and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from audit.execution.looks import Looks
from audit.execution.seals import Broken
from audit.execution.store import Cache
from reports import record as records
from reports.record import Record
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


def looked(cache: Cache, question: str) -> tuple[int, ...]:
    """Return the numbers of judged seeds at which a question was looked at before, in any folder.

    Raises RefusedInput where they cannot be read: to forget them would make the bounds too narrow.
    """
    try:
        return Looks(cache.entries).at(question)
    except Broken as e:
        said = f"{cache.looks(question)} {e}, and without the looks of earlier audits the bounds would be too narrow"
        raise RefusedInput(f"{said}; restore it from a copy of the cache") from e


def remember_looks(cache: Cache, question: str, seeds: Iterable[int]) -> None:
    """Keep at which numbers of seeds a question was looked at: each look spent error."""
    looked(cache, question)
    Looks(cache.entries).add(question, seeds)
