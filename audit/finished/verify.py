"""`audit verify`: check that everything in a folder follows from the measurements; needs no torch, data or network."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

from audit.analysis.derive import derived
from audit.finished import carried, tables
from audit.finished.choices import choices
from audit.finished.design import Disagreement as Disagreement
from audit.finished.design import design, differences, student, unequal
from audit.finished.figures import same_page
from audit.finished.groups import Groups
from audit.finished.hardening import inside, several, surface
from audit.finished.identity import identity
from audit.finished.pairing import pairing
from audit.finished.parts import parts
from audit.finished.queries import queries
from audit.finished.shapes import shapes
from audit.finished.students import students
from reports import outputs
from reports.record import Record, RecordError, by_surface, dumped, load


def verify(folder: Path) -> Iterator[Disagreement]:
    """Recompute all numbers, flags and verdicts of a record, and every report made from it; yield what disagrees.

    Reports are compared only if the record itself is consistent. Raises RecordError where the folder has no readable
    record.
    """
    record = load(folder)
    outside = [row.folder for row in record.surfaces if not inside(row.folder)]
    if outside:
        yield Disagreement("surfaces", f"an audit in {outside[0]}", "one inside this folder")
        return
    try:
        each = by_surface(record, folder)
    except RecordError as e:  # the reports need the records of all surfaces
        yield Disagreement("surfaces", f"an audit that cannot be read ({e})", "audits that can be read")
        return
    for row, one in zip(record.surfaces, each, strict=False):  # none where one surface was audited
        yield from guarded(partial(surface, record, row, one, folder))
        if not one.surfaces:  # a record with surfaces in it could refer to itself without end
            for found in verify(folder / row.folder):
                yield found._replace(where=f"{row.folder}: {found.where}")
    yield from several(record)
    wrong = False
    for found in follows(record):
        wrong = True
        yield found
    if not wrong:
        yield from guarded(lambda: files(record, folder))


def follows(record: Record) -> Iterator[Disagreement]:
    """Recompute everything that follows from a record's students, and check the students themselves."""
    broken = next(unpackable(record), None)
    if broken is not None:
        yield broken
        return
    yield from guarded(lambda: differences("record", record.model_dump(), derived(record).model_dump()))
    yield from measured(record)


def measured(record: Record) -> Iterator[Disagreement]:
    """Check that students, rows and counts fit the audit that a record names, without its derived numbers."""
    broken = next(unpackable(record), None)
    if broken is not None:
        yield broken
        return
    yield from guarded(lambda: names(record))
    yield from guarded(lambda: _evidence(record))


def unpackable(record: Record) -> Iterator[Disagreement]:
    """Check every array's type and shape, before any is unpacked."""
    for found in shapes(record):
        told = f"an array that cannot be unpacked: {found.where} is {found.stored}"
        yield Disagreement("record.json", told, found.found)


def _evidence(record: Record) -> Iterator[Disagreement]:
    groups = Groups(record)
    yield from design(record)
    yield from parts(record)
    yield from pairing(groups)
    yield from choices(groups)
    yield from students(groups)
    yield from queries(record)
    yield from identity(record)


def guarded(look: Callable[[], Iterator[Disagreement]]) -> Iterator[Disagreement]:
    """Yield disagreements; an exception of the check counts as one, too."""
    try:
        yield from look()
    except Exception as e:  # a forged record may break any of our own computations: never a traceback
        yield Disagreement("record.json", f"a value that cannot be unpacked ({type(e).__name__}: {e})", "one that can")


def files(record: Record, folder: Path) -> Iterator[Disagreement]:
    """Compare every file with what the record gives; with another version of matplotlib, figures up to rounding."""
    expected: dict[str, bytes] = {"record.json": dumped(record)}
    expected |= outputs.files(record, folder) | tables.asked_for(record, folder)
    same_pens = record.environment.packages.get("matplotlib") == version("matplotlib")
    for name, content in expected.items():
        path = folder / name
        redrawn = name.endswith(".html") and not same_pens
        fits = partial(same_page, drawn=content) if redrawn else partial(operator.eq, content)
        if not path.is_file():
            yield carried.missing(name, folder)
        elif not fits(stored := path.read_bytes()):
            yield carried.lines(name, stored, fits) or Disagreement(name, *_first_difference(stored, content))
    yield from tables.parquets(record, folder)
    if (wrong := carried.journal(folder / tables.JOURNAL, record.journal, partial=bool(record.planned))) is not None:
        yield wrong


def _first_difference(stored: bytes, found: bytes) -> tuple[str, str]:
    at = next((i for i, (a, b) in enumerate(zip(stored, found, strict=False)) if a != b), min(len(stored), len(found)))
    near = slice(max(0, at - 20), at + 20)
    return f"{stored[near]!r} at byte {at:,}", repr(found[near])


def names(record: Record) -> Iterator[Disagreement]:
    """Check that every student's name is the digest of everything that determines it."""
    for trial in record.trials:
        yield from unequal(student(trial), trial.key, trial.cell.key)
