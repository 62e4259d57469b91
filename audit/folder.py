"""The folder of an audit: claimed by one process, finished once, looked at and counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from reports import record as records
from reports.outputs import FILES
from reports.record import Record
from teachers.errors import RefusedInput, UsageError
from teachers.files import write_whole

AUDIT = ("record.json", "journal.jsonl", "audit.id", *FILES)  # what an audit writes


def refuse_file(folder: Path | None) -> None:
    """Stop, before anything is trained, where --out is no folder."""
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file; give a folder")


def write_pages(out: Path, pages: Mapping[str, str]) -> list[Path]:
    """Write pages into a folder, by their file names; return their paths. Raises RefusedInput where it cannot be."""
    try:
        for name, text in pages.items():
            write_whole(out / name, text.encode())
    except OSError as e:
        raise RefusedInput(f"{out} cannot be written ({e.strerror}); give another folder with --out") from e
    return [out / name for name in pages]


def prepare(folder: Path, names: Collection[str]) -> None:
    """Make a folder and write to it, so that what is made in hours has a place.

    Raises RefusedInput where that cannot be done, or where something else is in the way of the files so named.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            if (path := folder / name).exists() and not path.is_file():
                raise RefusedInput(f"{path} is in the way of a file that is to be written; remove it")
        tried = folder / f".{max(names, key=len)}.tried"
        write_whole(tried, b"tried")
        tried.unlink()
    except (OSError, ValueError) as e:  # ValueError: of a name that cannot be
        why = (e.strerror if isinstance(e, OSError) else None) or e
        raise RefusedInput(f"{folder} cannot be written ({why}); give another with --out") from e


@contextmanager
def claimed(folder: Path, note: Callable[[str], None], names: Collection[str] = AUDIT) -> Iterator[None]:
    """Hold the folder, in which such files will be written, for this process; a second audit waits for the first."""
    refuse_file(folder)
    prepare(folder, names)
    try:
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


def already(folder: Path, identity: str, *, decided: bool = False) -> Record | None:
    """Return the finished record of this very audit, if the folder holds it and no attack failed in it.

    `decided`: a partial record is enough, if its teacher was asked again before the audit ended.

    Raises UsageError where the folder holds another audit, finished or begun.
    """
    marker = folder / "audit.id"
    if marker.exists() and marker.read_text().strip() != identity:
        raise UsageError(f"{folder} holds another audit; give another folder with --out, or remove it")
    path = folder / "record.json"
    if not path.exists():
        write_whole(marker, identity.encode())
        return None
    try:
        found = records.load(path)
    except records.RecordError:
        return None
    if found.audit != identity:
        raise UsageError(f"{folder} holds another audit; give another folder with --out, or remove it")
    left = any(row.status == "failed" for row in found.comparisons)
    left |= bool(found.planned) and not (decided and found.probe.again is not None)
    return None if left else found
