"""Refuse a word that is not known, and what is not there, before torch is imported: in less than half a second."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from audit.plan.engines import known_engine
from audit.plan.names import surfaces
from audit.plan.suite import suite
from reports.settings import PROCEDURAL
from teachers import presence
from teachers.data import catalogue
from teachers.errors import UsageError
from teachers.names import BUILT_IN
from teachers.places import place
from teachers.targets.spec import LIVE

if TYPE_CHECKING:
    from audit.plan.options import Options

DEVICES: Final = ("cpu", "cuda")


def refuse(options: Options, *, live: bool) -> None:
    """Raise UsageError or RefusedInput with one sentence; `live`: whether the teacher is an object of this process."""
    suite(options.effort)
    if options.surface:
        surfaces(options.surface)
    known_device(options.device)
    known_engine(options.engine)
    if not live and options.teacher not in BUILT_IN and not _is_address(options.teacher):
        presence.checkpoint(Path(options.teacher))
    if options.data:
        catalogue.folder(options.data)
    if options.groups.lower().endswith(".csv"):
        presence.groups(place(options.groups))
    if options.surrogate != PROCEDURAL:
        presence.images(place(options.surrogate))


def known_device(device: str) -> None:
    """Refuse a device that no machine has."""
    if device not in DEVICES:
        raise UsageError(f"unknown device {device!r}; there are {', '.join(DEVICES)}")


def _is_address(teacher: str) -> bool:
    """Whether it names no file, but a URL or an object that an earlier audit was of."""
    return "://" in teacher or teacher.startswith(LIVE)
