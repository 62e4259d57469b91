"""The cache, device and progress reporter that teachers share."""

from __future__ import annotations

from dataclasses import dataclass

from teachers.notes import Note
from teachers.storage.store import Store


@dataclass(frozen=True)
class Runtime:
    """The cache and the device of teachers, and the function that prints a line of progress."""

    cache: Store
    device: str
    note: Note
