"""Write a record's reports into one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from reports import attestation, badge, html, junit, markdown, model_card, policy_outcome, tables
from reports.record import Record, by_surface
from teachers.files import write_whole

TABLES: Final = "tables"  # the folder of the table files

# By format: a function from a record and its folder (with the records of other surfaces) to the format's files.
FORMATS: Final[Mapping[str, Callable[[Record, Path], dict[str, bytes]]]] = {
    "html": lambda record, folder: {"report.html": html.render(record, policy_outcome.of(record, folder)).encode()},
    "junit": lambda record, folder: {"junit.xml": junit.render(record, by_surface(record, folder)[1:]).encode()},
    "md": lambda record, _: {"summary.md": markdown.render(record).encode()},
    "attestation": lambda record, _: {"attestation.json": attestation.render(record).encode()},
    "badge": lambda record, _: {
        "badge.svg": badge.svg(record).encode(),
        "badge.json": badge.endpoint(record).encode(),
    },
    "card": lambda record, _: {"model-card.md": model_card.render(record).encode()},
    "csv": lambda record, _: {f"{TABLES}/{table.name}.csv": table.csv(record) for table in tables.EVERY},
    "parquet": lambda record, _: _parquet(record),
}
FILES: Final = ("report.html", "junit.xml", "summary.md", "attestation.json", "badge.svg", "badge.json")  # of ALWAYS
ALWAYS: Final = ("html", "junit", "md", "attestation", "badge")  # what `audit run` writes and `audit verify` compares


def files(record: Record, folder: Path, formats: Iterable[str] = ALWAYS) -> dict[str, bytes]:
    """Return the reports in some formats, by their file names in the record's folder.

    Raises RecordError where a report covers all surfaces and the record of one of them cannot be read.
    """
    made: dict[str, bytes] = {}
    for name in formats:
        made |= FORMATS[name](record, folder)
    return made


def write_all(record: Record, folder: Path, formats: Iterable[str] = ALWAYS) -> list[Path]:
    """Render all reports, then write each completely or not at all; return their paths."""
    written = files(record, folder, formats)
    for name, content in written.items():
        write_whole(folder / name, content)
    return [folder / name for name in written]


def _parquet(record: Record) -> dict[str, bytes]:
    """Return every table as Parquet; imports pandas only here."""
    from reports import frames

    return {f"{TABLES}/{table.name}.parquet": frames.parquet(table, record) for table in tables.EVERY}
