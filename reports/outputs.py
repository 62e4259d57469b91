"""Write reports of a record into one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from reports import attestation, badge, html, junit, markdown, tables
from reports.record import Record, by_surface, write_whole

TABLES: Final = "tables"  # the folder of what is written of each table

# By format: a record, and the folder in which those of other surfaces lie, to the files in that format.
FORMATS: Final[Mapping[str, Callable[[Record, Path], dict[str, bytes]]]] = {
    "html": lambda record, _: {"report.html": html.render(record).encode()},
    "junit": lambda record, folder: {"junit.xml": junit.render(record, by_surface(record, folder)[1:]).encode()},
    "md": lambda record, _: {"summary.md": markdown.render(record).encode()},
    "attestation": lambda record, _: {"attestation.json": attestation.render(record).encode()},
    "badge": lambda record, _: {
        "badge.svg": badge.svg(record).encode(),
        "badge.json": badge.endpoint(record).encode(),
    },
    "csv": lambda record, _: {f"{TABLES}/{table.name}.csv": table.csv(record) for table in tables.EVERY},
    "parquet": lambda record, _: _parquet(record),
}
FILES: Final = ("report.html", "junit.xml", "summary.md", "attestation.json", "badge.svg", "badge.json")  # of ALWAYS
ALWAYS: Final = ("html", "junit", "md", "attestation", "badge")  # what `audit run` writes, and `audit verify` compares


def files(record: Record, folder: Path, formats: Iterable[str] = ALWAYS) -> dict[str, bytes]:
    """Return the reports in these formats, by the names of their files in the record's folder.

    Raises RecordError where one tells of all surfaces, and the record of another cannot be read.
    """
    made: dict[str, bytes] = {}
    for name in formats:
        made |= FORMATS[name](record, folder)
    return made


def write_all(record: Record, folder: Path, formats: Iterable[str] = ALWAYS) -> list[Path]:
    """Write reports, each whole or not at all and none before all are made; return their paths."""
    written = files(record, folder, formats)
    for name, content in written.items():
        write_whole(folder / name, content)
    return [folder / name for name in written]


def _parquet(record: Record) -> dict[str, bytes]:
    """Return every table as Parquet; pandas is imported by who asks for it."""
    from reports import frames

    return {f"{TABLES}/{table.name}.parquet": frames.parquet(table, record) for table in tables.EVERY}
