"""The user's cache: everything in `teachers.storage`, and finished students, each under its cell's key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from audit.cache import results
from audit.plan.cells import Cell, Result
from reports.progress import ProgressReporter
from teachers.notes import Note
from teachers.storage.entries import Content
from teachers.storage.store import Store


class Cache(Store):
    """A store that also holds the students of audits.

    Without `note`, damaged entries are reported on standard error.
    """

    def __init__(self, root: Path, note: Note | None = None, price: float | None = None) -> None:
        super().__init__(root, note or ProgressReporter().note, price)

    def result(self, cell: Cell, sizes: Mapping[str, int] | None = None, classes: int = 2**16) -> Result | None:
        """Return a finished cell, or None; a damaged one counts as not finished.

        Its answers must fit `sizes` (of the splits, by name) and the number of classes.
        """

        def parse(content: Content) -> Result:
            found = results.student(content, cell.key)
            results.fits(found, sizes or {}, classes)
            return found

        return self.entries.read(self._name(cell), parse, "the student is trained again")

    def has(self, key: str) -> bool:
        """Whether there is an entry of a cell, damaged or not."""
        return self._cell(key).exists()

    def finish(self, result: Result) -> None:
        """Store a finished cell."""
        self.entries.write(self._name(result.cell), result.model_dump_json().encode())

    def forget(self, cell: Cell) -> None:
        """Remove a finished cell, so that it is trained again."""
        self._cell(cell.key).unlink(missing_ok=True)

    def _name(self, cell: Cell) -> str:
        return f"cells/{cell.key[:2]}/{cell.key}.json"

    def _cell(self, key: str) -> Path:
        return self.root / "cells" / key[:2] / f"{key}.json"

    def looks(self, question: str) -> Path:
        """Return the file that holds the looks at a question."""
        return self.root / "looks" / f"{question}.json"
