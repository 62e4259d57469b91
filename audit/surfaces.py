"""`audit run --surface A,B`: audit every surface, and compare them in a table."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from audit import folder
from audit.analysis.derive import surface_row
from audit.pipeline import WrittenAudit, run
from audit.plan.names import surfaces
from audit.plan.options import Options
from audit.plan.suite import suite
from reports.outputs import write_all
from reports.progress import ProgressReporter
from reports.record import RecordError, Times, load, save
from teachers.errors import UsageError
from teachers.targets.target import slug

KEPT = "surfaces"  # the folder of the surfaces' own audits


def audit(options: Options, *, command: str = "") -> WrittenAudit:
    """Audit every requested surface; with several, the record of the first one also has the table of all.

    Students that do not depend on the surface are shared through the cache.
    """
    names = surfaces(options.surface)
    if len(names) == 1:
        return run(replace(options, surface=names[0]), command=command)
    folder.refuse_file(options.out)
    mark = hashlib.sha256(repr(names).encode()).hexdigest()[:8]
    name = f"{slug(Path(options.teacher).name)}-{suite(options.effort).name}-{KEPT}-{mark}"
    out, progress = options.out or Path("audit-out") / name, ProgressReporter(options.quiet)
    _refuse_another(out, names)
    places = {surface: out / KEPT / surface.replace(":", "-") for surface in names}
    for place in (out, *places.values()):
        folder.prepare(place, folder.AUDIT)
    done = []
    for number, surface in enumerate(names, 1):
        progress.note(f"surface {number} of {len(names)}: {surface}")
        done.append(run(replace(options, surface=surface, out=places[surface]), command=command))
    rows = tuple(
        surface_row(one.record, one.folder.relative_to(out).as_posix(), digest(one.folder / "record.json"))
        for one in done
    )
    times = together([one.record.times for one in done])
    record = done[0].record.model_copy(update={"surfaces": rows, "times": times})
    shutil.copyfile(done[0].folder / "journal.jsonl", out / "journal.jsonl")
    save(record, out / "record.json")
    write_all(record, out)
    return WrittenAudit(record, out, again=all(one.again for one in done))


def together(times: Sequence[Times]) -> Times:
    """Add up the times of audits that ran one after the other."""
    wall = sum(one.wall_seconds for one in times)
    return Times(
        created=times[-1].created,
        wall_seconds=wall,
        training_share=sum(one.training_share * one.wall_seconds for one in times) / wall if wall else 0.0,
        trained=sum(one.trained for one in times),
        reused=sum(one.reused for one in times),
    )


def _refuse_another(out: Path, names: tuple[str, ...]) -> None:
    """Raise UsageError for a folder that holds an audit of other surfaces."""
    try:
        held = load(out)
    except RecordError:  # there is no record yet, or it cannot be read
        return
    if tuple(row.surface for row in held.surfaces) != names:
        raise UsageError(f"{out} holds another audit; give another folder with --out, or remove it")


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
