"""What the user runs: from a checkpoint to a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from reports.frames import Frames

__version__ = "0.2.0"


def load(place: str | Path) -> Frames:
    """Return the tables of an audit as pandas data frames: of its folder, or of a record.json.

    Raises reports.record.RecordError with one sentence where there is no record that can be read.
    """
    from reports.frames import read
    from teachers.places import place as expanded

    return read(expanded(place))
