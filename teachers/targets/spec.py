"""What a user says about the teacher and the task; no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from teachers.http.address import USUAL, Service

LIVE: Final = "live:"  # begins the name of a teacher that is an object of the process that audits it


@dataclass(frozen=True)
class TeacherSpec:
    """What the command line says about the teacher and the task."""

    teacher: str
    data: str | None = None
    architecture: str | None = None
    normalize: str | None = None
    size: int | None = None
    trust: bool = False  # whether a checkpoint that is a program may run
    classes: tuple[str, ...] = ()  # in the order of the network's outputs, if that is not the data's
    weights: str | None = None  # which weights to use if a checkpoint holds several networks
    channels: int | None = None  # of a built-in teacher's images; any other teacher determines its own
    service: Service = USUAL  # the options of a teacher behind a URL
    live: Any = field(default=None, compare=False, repr=False)  # an object of this process, in place of a file
    tried: int = field(default=0, compare=False)  # images that were shown to identify the file
