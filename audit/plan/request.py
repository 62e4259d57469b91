"""What the command line asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attacks.base import Attack
from teachers.targets.target import TeacherSpec


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    spec: TeacherSpec
    attacks: str = "all"
    student: str | None = None
    seeds: int | None = None
    shots: float = 1.0
    labels: float = 1.0
    drop_classes: str = ""
    surface: str = "probs"
    budget: int | None = None
    effort: str = "standard"
    surrogate: str | None = None
    jobs: int = 1
    device: str = "cpu"
    out: Path | None = None
    cache: Path | None = None
    price: float | None = None  # of 1,000 queries
    thumbnails: bool = True  # of the validation images that stand out, in the record
    command: str = ""
    quiet: bool = False
    isolate: bool | None = None  # teachers in a process of their own; None: where plug-ins take part
    cell_timeout: float | None = None  # seconds that a worker may say nothing; None: by the steps of its student
    fixed: tuple[Attack, ...] = ()  # settings that an earlier audit chose, in place of tuning
