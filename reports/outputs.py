"""Write the reports of a record, by format, into one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from reports import attestation, html, junit, markdown, tables
from reports.record import Record, write_whole

TABLES: Final = "tables"  # the folder of what is written of each table

FORMATS: Final[Mapping[str, Callable[[Record], dict[str, bytes]]]] = {
    "html": lambda record: {"report.html": html.render(record).encode()},
    "junit": lambda record: {"junit.xml": junit.render(record).encode()},
    "md": lambda record: {"summary.md": markdown.render(record).encode()},
    "attestation": lambda record: {"attestation.json": attestation.render(record).encode()},
    "csv": lambda record: {f"{TABLES}/{table.name}.csv": table.csv(record) for table in tables.EVERY},
    "parquet": lambda record: _parquet(record),
}
ALWAYS: Final = ("html", "junit", "md", "attestation")  # what `audit run` writes, and `audit verify` compares


def files(record: Record, formats: Iterable[str] = ALWAYS) -> dict[str, bytes]:
    """Return the reports in these formats, by the names of their files in the folder."""
    made: dict[str, bytes] = {}
    for name in formats:
        made |= FORMATS[name](record)
    return made


def write_all(record: Record, folder: Path, formats: Iterable[str] = ALWAYS) -> list[Path]:
    """Write reports, each whole or not at all and none before all are made; return their paths."""
    written = files(record, formats)
    for name, content in written.items():
        write_whole(folder / name, content)
    return [folder / name for name in written]


def _parquet(record: Record) -> dict[str, bytes]:
    """Return every table as Parquet; pandas is imported by who asks for it."""
    from reports import frames

    return {f"{TABLES}/{table.name}.parquet": frames.parquet(table, record) for table in tables.EVERY}
