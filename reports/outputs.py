"""Write every report of a record into one folder."""

from __future__ import annotations

from pathlib import Path

from reports import html, junit, markdown
from reports.record import Record, write_whole


def write_all(record: Record, folder: Path) -> list[Path]:
    """Write report.html, junit.xml and summary.md, each whole or not at all; return their paths."""
    texts = {
        "report.html": html.render(record),
        "junit.xml": junit.render(record),
        "summary.md": markdown.render(record),
    }
    for name, text in texts.items():
        write_whole(folder / name, text.encode())
    return [folder / name for name in texts]
