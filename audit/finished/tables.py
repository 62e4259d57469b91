"""Optional files in an audit's folder (tables, the audit's name), and files that do not belong to it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from audit.finished.design import Disagreement
from reports import outputs, policy_outcome
from reports import tables as every
from reports.record import Record

ID, JOURNAL, LOCK = "audit.id", "journal.jsonl", ".lock"
SURFACES = "surfaces"  # the folder of the surfaces' own audits


def asked_for(record: Record, folder: Path) -> dict[str, bytes]:
    """Return the expected content of the optional files that are there, by name."""
    due = {ID: record.audit.encode(), **outputs.files(record, folder, ("csv",))}
    return {name: content for name, content in due.items() if (folder / name).exists()}


def parquets(record: Record, folder: Path) -> Iterator[Disagreement]:
    """Compare the content of the Parquet tables that are there; does nothing without pyarrow."""
    there = [table for table in every.EVERY if (folder / _parquet(table.name)).exists()]
    if not there or not installed():
        return
    import pandas as pd

    from reports.frames import frame

    for table in there:
        path = folder / _parquet(table.name)
        try:
            same = pd.read_parquet(io.BytesIO(path.read_bytes()), engine="pyarrow").equals(frame(table, record))
        except Exception as e:  # pyarrow may raise anything for a damaged file
            yield Disagreement(_parquet(table.name), f"a file that cannot be read ({type(e).__name__})", "a table")
            continue
        if not same:
            yield Disagreement(_parquet(table.name), "other cells", f"those of the table {table.name}")


def installed() -> bool:
    """Whether Parquet files can be read."""
    return find_spec("pyarrow") is not None


def beside(record: Record, folder: Path) -> list[str]:
    """Name the files of a folder that verify does not check: no audit writes them, or they cannot be compared."""
    known = {"record.json", JOURNAL, LOCK, ID, *outputs.files(record, folder, (*outputs.ALWAYS, "csv"))}
    known |= {policy_outcome.FILE} if policy_outcome.of(record, folder) is not None else set()
    known |= {_parquet(table.name) for table in every.EVERY} if installed() else set()
    own = tuple(f"{row.folder}/" for row in record.surfaces)
    found = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir())
    left = [name for name in found if name not in known and not name.startswith(own)]
    for row in record.surfaces:
        left += [
            f"{row.folder}/{name}" for name in beside(record.model_copy(update={"surfaces": ()}), folder / row.folder)
        ]
    return left


def _parquet(name: str) -> str:
    return f"{outputs.TABLES}/{name}.parquet"
