"""Write what is made from a limit's document."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from reports.limit import document, html, markdown
from reports.limit.document import Limit
from teachers.files import write_whole

FILES: Final = (document.FILE, "limit.html", "limit.md")


def files(limit: Limit) -> dict[str, bytes]:
    """Return page and Markdown by file name."""
    return {"limit.html": html.render(limit).encode(), "limit.md": markdown.render(limit).encode()}


def write(limit: Limit, folder: Path) -> None:
    """Write document, page and Markdown, each completely or not at all."""
    document.save(limit, folder)
    for name, content in files(limit).items():
        write_whole(folder / name, content)
