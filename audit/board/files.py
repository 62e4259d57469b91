"""`audit board DIR`: find the audits below a folder and what is said of them, and write the board's pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

from pydantic import Field, ValidationError

from audit.board.rows import Submission, board
from audit.folder import refuse_file, write_pages
from audit.plan.toml_files import Purpose, opened
from reports.base import Data
from reports.board import html, markdown
from reports.board.document import Board
from reports.record import load
from teachers.errors import UsageError

ENTRY: Final = "entry.toml"  # beside a record, or in a folder above it: what it says holds for all records below
REPORT: Final = "report.html"
PURPOSE: Final = Purpose(option="audit board", values="texts are in quotes", levels="an entry has no tables")
PAGES: Final[Mapping[str, Callable[[Board], str]]] = {"board.html": html.render, "board.md": markdown.render}

Text = Annotated[str, Field(max_length=200)]


class EntryFile(Data):
    """What whoever submits an entry says of it."""

    defence: Text = ""
    by: Text = ""
    link: Annotated[Text, Field(pattern=r"^(https://\S+)?$")] = ""


def board_of(folder: Path, out: Path | None = None) -> tuple[Board, list[Path]]:
    """Return the board of all audits below a folder, and the paths of its pages, which lie in `out` or in the folder.

    Raises UsageError where there are no audits, one is there twice, or an entry says what is not allowed; RecordError
    where a record cannot be read, RefusedInput where a page cannot be written.
    """
    refuse_file(out)
    there = out or folder
    found = [_submission(path.parent, folder, there) for path in sorted(folder.rglob("record.json"))]
    if not found:
        raise UsageError(f"{folder} holds no audits; give a folder with folders that `audit run` wrote")
    done = board(found)
    return done, write_pages(there, {file: render(done) for file, render in PAGES.items()})


def _submission(home: Path, folder: Path, there: Path) -> Submission:
    inside = [above for above in (home, *home.parents) if above == folder or folder in above.parents]
    said = next((_entry(above / ENTRY) for above in inside if (above / ENTRY).is_file()), EntryFile())
    linked = quote(os.path.relpath(home / REPORT, there)) if (home / REPORT).is_file() else ""
    return Submission(str(home), load(home), said.defence, said.by, said.link, linked)


def _entry(path: Path) -> EntryFile:
    file = opened(path, PURPOSE)
    try:
        return EntryFile.model_validate(file.content())
    except ValidationError as e:
        first = e.errors()[0]
        what = f"is not allowed here: {', '.join(EntryFile.model_fields)} are"
        if first["type"] != "extra_forbidden":
            what = "is no text of at most 200 characters; a link begins with https://"
        raise file.wrong(first["loc"], what) from e
