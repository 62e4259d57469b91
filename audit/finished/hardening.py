"""Check that the table of surfaces matches the surfaces' own audits, and that these are audits of one teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath

from audit.analysis.derive import surface_row
from audit.finished.design import Disagreement, differences
from reports.record import Record, SurfaceResult

OF_TEACHER = {"name", "sha256", "architecture", "method", "network_parameters", "output", "mean", "std", "bgr"}


def inside(folder: str) -> bool:
    """Whether a surface's folder lies inside the audit's folder."""
    place = PurePosixPath(folder)
    return not place.is_absolute() and ".." not in place.parts and "\\" not in folder and "\0" not in folder


def surface(record: Record, row: SurfaceResult, one: Record, folder: Path) -> Iterator[Disagreement]:
    """Check that a row matches its audit, and that this audit differs from the others only in its surface."""
    if one.surfaces:
        yield Disagreement(
            f"surface {row.surface}", f"an audit of {len(one.surfaces)} surfaces", "an audit of one surface"
        )
        return
    digest = hashlib.sha256((folder / row.folder / "record.json").read_bytes()).hexdigest()
    own = surface_row(one, row.folder, digest)
    yield from differences(f"surface {row.surface}", row.model_dump(), own.model_dump())
    if row is record.surfaces[0]:
        told = record.model_copy(update={"surfaces": (), "times": one.times})
        yield from differences(f"record beside {row.folder}", told.model_dump(), one.model_dump())
        return
    where = f"record in {row.folder}"
    yield from differences(f"{where}.task", record.task.model_dump(), one.task.model_dump())
    yield from differences(f"{where}.design", record.design, one.design)
    yield from differences(f"{where}.suite", record.suite.model_dump(), one.suite.model_dump())
    asked, also = (asdict(replace(r.settings, surface="", isolate=None)) for r in (record, one))
    yield from differences(f"{where}.settings", asked, also)
    mine, other = (r.teacher.model_dump(include=OF_TEACHER) for r in (record, one))
    yield from differences(f"{where}.teacher", mine, other)


def several(record: Record) -> Iterator[Disagreement]:
    """Check that an audit of surfaces has at least two, each once."""
    names = [row.surface for row in record.surfaces]
    if names and (len(names) < 2 or len(set(names)) < len(names)):
        yield Disagreement("surfaces", ", ".join(names), "two or more, each once")
