"""Where teachers are kept and run, and whom to tell."""

from __future__ import annotations

from dataclasses import dataclass

from teachers.notes import Note
from teachers.storage.store import Store


@dataclass(frozen=True)
class Runtime:
    """Where teachers are kept and run, and whom to tell."""

    cache: Store
    device: str
    note: Note
