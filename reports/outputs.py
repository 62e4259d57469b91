"""Write every report of a record into one folder."""

from __future__ import annotations

from pathlib import Path

from reports import attestation, html, junit, markdown
from reports.record import Record, write_whole


def texts(record: Record) -> dict[str, str]:
    """Return every report by its file's name."""
    return {
        "report.html": html.render(record),
        "junit.xml": junit.render(record),
        "summary.md": markdown.render(record),
        "attestation.json": attestation.render(record),
    }


def write_all(record: Record, folder: Path) -> list[Path]:
    """Write every report, each whole or not at all; return their paths."""
    written = texts(record)
    for name, text in written.items():
        write_whole(folder / name, text.encode())
    return [folder / name for name in written]
