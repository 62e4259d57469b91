"""Write every report of a record into one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reports import attestation, badge, html, junit, markdown
from reports.record import Record, RecordError, load, write_whole


def texts(record: Record, others: Sequence[Record] = ()) -> dict[str, str]:
    """Return every report by its file's name; `others` are the records of other surfaces."""
    return {
        "report.html": html.render(record),
        "junit.xml": junit.render(record, others),
        "summary.md": markdown.render(record),
        "attestation.json": attestation.render(record),
        "badge.svg": badge.svg(record),
        "badge.json": badge.endpoint(record),
    }


def others(record: Record, folder: Path) -> list[Record]:
    """Return the records of other surfaces that lie in the folder of a record; one that cannot be read is left out."""
    found = []
    for row in record.hardening:
        try:
            found.append(load(folder / row.folder))
        except RecordError:  # `audit verify` tells of it
            continue
    return [other for other in found if other.settings.surface != record.settings.surface]


def write_all(record: Record, folder: Path) -> list[Path]:
    """Write every report, each whole or not at all; return their paths."""
    written = texts(record, others(record, folder))
    for name, text in written.items():
        write_whole(folder / name, text.encode())
    return [folder / name for name in written]
