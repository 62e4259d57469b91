"""`audit compare A B …`: read records, compare them, and write the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from audit.finished.reporting import formats
from audit.finished.side_by_side import NamedRecord, side_by_side
from audit.folder import refuse_file, write_pages
from reports.leaderboard import html, markdown
from reports.leaderboard.board import Leaderboard
from reports.record import load
from teachers.errors import UsageError

FORMATS: Final[Mapping[str, tuple[str, Callable[[Leaderboard], str]]]] = {
    "html": ("compare.html", html.render),
    "md": ("compare.md", markdown.render),
}


def compare(
    places: Sequence[Path], out: Path | None = None, asked: str | None = None
) -> tuple[Leaderboard, list[Path]]:
    """Compare the records of some folders; write the pages if `out` is given, and return their paths.

    Raises UsageError where the records cannot be compared, or a format is given without a folder; RecordError where a
    folder has no record, RefusedInput where `out` cannot be written.
    """
    if asked is not None and out is None:
        raise UsageError(f"--format {asked} needs a folder; give it with --out")
    names = tuple(FORMATS) if asked is None else formats(asked, FORMATS)
    refuse_file(out)
    board = side_by_side([NamedRecord(str(place), load(place)) for place in places])
    if out is None:
        return board, []
    return board, write_pages(out, {file: render(board) for file, render in (FORMATS[name] for name in names)})
