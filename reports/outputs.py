"""Write reports of a record into one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from reports import attestation, badge, html, junit, markdown, tables
from reports.record import Record, RecordError, load, write_whole

TABLES: Final = "tables"  # the folder of what is written of each table

# By format: a record, and those of other surfaces, to the files in that format.
FORMATS: Final[Mapping[str, Callable[[Record, Sequence[Record]], dict[str, bytes]]]] = {
    "html": lambda record, _: {"report.html": html.render(record).encode()},
    "junit": lambda record, others: {"junit.xml": junit.render(record, others).encode()},
    "md": lambda record, _: {"summary.md": markdown.render(record).encode()},
    "attestation": lambda record, _: {"attestation.json": attestation.render(record).encode()},
    "badge": lambda record, _: {
        "badge.svg": badge.svg(record).encode(),
        "badge.json": badge.endpoint(record).encode(),
    },
    "csv": lambda record, _: {f"{TABLES}/{table.name}.csv": table.csv(record) for table in tables.EVERY},
    "parquet": lambda record, _: _parquet(record),
}
ALWAYS: Final = ("html", "junit", "md", "attestation", "badge")  # what `audit run` writes, and `audit verify` compares


def files(record: Record, others: Sequence[Record] = (), formats: Iterable[str] = ALWAYS) -> dict[str, bytes]:
    """Return the reports in these formats, by the names of their files in the folder; `others`: of other surfaces."""
    made: dict[str, bytes] = {}
    for name in formats:
        made |= FORMATS[name](record, others)
    return made


def others(record: Record, folder: Path) -> list[Record]:
    """Return the records of other surfaces that lie in the folder of a record; one that cannot be read is left out."""
    found = []
    for row in record.hardening:
        try:
            found.append(load(folder / row.folder))
        except RecordError:  # `audit verify` tells of it
            continue
    return [other for other in found if other.settings.surface != record.settings.surface]


def write_all(record: Record, folder: Path, formats: Iterable[str] = ALWAYS) -> list[Path]:
    """Write reports, each whole or not at all and none before all are made; return their paths."""
    written = files(record, others(record, folder), formats)
    for name, content in written.items():
        write_whole(folder / name, content)
    return [folder / name for name in written]


def _parquet(record: Record) -> dict[str, bytes]:
    """Return every table as Parquet; pandas is imported by who asks for it."""
    from reports import frames

    return {f"{TABLES}/{table.name}.parquet": frames.parquet(table, record) for table in tables.EVERY}
