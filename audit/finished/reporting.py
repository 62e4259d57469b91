"""`audit report`: parse the requested formats, and write a folder's reports in them."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from audit.plan.names import listed
from reports.outputs import ALWAYS, FORMATS, write_all
from reports.record import load
from teachers.errors import RefusedInput, UsageError
from teachers.extras import install
from teachers.names import nearest


def report(place: Path, asked: str | None = None) -> list[Path]:
    """Write the reports of a folder or record again; return their paths.

    Raises UsageError for an unknown format, or one whose extra is not installed; RecordError where there is no record,
    RefusedInput where the folder cannot be written.
    """
    names = ALWAYS if asked is None else formats(asked, FORMATS)
    if "parquet" in names and find_spec("pyarrow") is None:
        raise UsageError(
            f"--format parquet needs pyarrow, which is not installed; {install('parquet')} adds it, or give csv"
        )
    path = place / "record.json" if place.is_dir() else place
    record = load(path)
    try:
        return write_all(record, path.parent, names)
    except OSError as e:
        raise RefusedInput(
            f"{e.filename or path.parent} cannot be written ({e.strerror}); copy the record elsewhere"
        ) from e


def formats(asked: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the formats that a text names, each once.

    Raises UsageError for an unknown format, or where none is named.
    """
    names = listed(asked.lower())
    if not names:
        raise UsageError(f"--format {asked!r} names no format; there are {', '.join(known)}")
    for name in names:
        if name not in known:
            raise UsageError(f"unknown format {name!r}; {nearest(name, known, most=2, always=True)}")
    return names
