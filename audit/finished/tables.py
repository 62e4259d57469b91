"""What lies in an audit's folder beside what `audit run` always writes: tables, its name, and what is none of its."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from audit.finished.design import Disagreement
from reports import outputs
from reports import tables as every
from reports.record import Record

ID, JOURNAL, LOCK = "audit.id", "journal.jsonl", ".lock"
SURFACES = "surfaces"  # the folder of the surfaces' own audits


def asked_for(record: Record, folder: Path) -> dict[str, bytes]:
    """Return what the files must hold that not every audit has, of those that lie there."""
    due = {ID: record.audit.encode(), **outputs.files(record, folder, ("csv",))}
    return {name: content for name, content in due.items() if (folder / name).exists()}


def parquets(record: Record, folder: Path) -> Iterator[Disagreement]:
    """Compare the tables that lie there as Parquet by what they hold; not where pyarrow is not installed."""
    there = [table for table in every.EVERY if (folder / _parquet(table.name)).exists()]
    if not there or not installed():
        return
    import pandas as pd

    from reports.frames import frame

    for table in there:
        path = folder / _parquet(table.name)
        try:
            same = pd.read_parquet(io.BytesIO(path.read_bytes()), engine="pyarrow").equals(frame(table, record))
        except Exception as e:  # pyarrow raises what it likes about a file that is damaged
            yield Disagreement(_parquet(table.name), f"what cannot be read: {type(e).__name__}", "a table")
            continue
        if not same:
            yield Disagreement(_parquet(table.name), "other cells", f"those of the table {table.name}")


def installed() -> bool:
    """Whether Parquet files can be read."""
    return find_spec("pyarrow") is not None


def beside(record: Record, folder: Path) -> list[str]:
    """Name the files of a folder that verify does not look at: what no audit writes, or cannot be compared."""
    known = {"record.json", JOURNAL, LOCK, ID, *outputs.files(record, folder, (*outputs.ALWAYS, "csv"))}
    known |= {_parquet(table.name) for table in every.EVERY} if installed() else set()
    own = tuple(f"{row.folder}/" for row in record.hardening)
    found = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir())
    left = [name for name in found if name not in known and not name.startswith(own)]
    for row in record.hardening:
        left += [
            f"{row.folder}/{name}" for name in beside(record.model_copy(update={"hardening": ()}), folder / row.folder)
        ]
    return left


def _parquet(name: str) -> str:
    return f"{outputs.TABLES}/{name}.parquet"
