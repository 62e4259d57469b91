"""`audit verify`: does everything in a folder follow from what was measured? Without torch, data or network."""

from __future__ import annotations

import hashlib
import math
import operator
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audit.derive import derived, surface_row
from audit.execution.cells import cell_of
from audit.finished import carried
from audit.finished.choices import choices
from audit.finished.design import TOLERANCE, design
from audit.finished.design import Disagreement as Disagreement
from audit.finished.groups import Groups
from audit.finished.pairing import pairing
from reports import outputs
from reports.record import SCHEMA_VERSION, Record, RecordError, by_surface, dumped, load, purpose_of


def verify(folder: Path) -> Iterator[Disagreement]:
    """Recompute all numbers, flags and words of a record, and every report made from it; yield what disagrees.

    Raises RecordError where the folder holds no record that can be read.
    """
    record = load(folder)
    if record.schema_version < SCHEMA_VERSION:
        raise RecordError(f"{folder} was made by an earlier version, whose rules were others; verify it with that one")
    try:
        each = by_surface(record, folder)
    except RecordError as e:  # a report tells of all surfaces
        yield Disagreement("surfaces", f"{len(record.hardening)} audits", f"one that cannot be read: {e}")
        return
    yield from files(record, folder)
    yield from hardened(record, folder, each)
    try:
        again = derived(record)
    except (ValueError, KeyError, IndexError, AssertionError, zlib.error) as e:  # a bit of an array, or a cell's name
        yield Disagreement("record.json", "an array or a cell that cannot be unpacked", f"{type(e).__name__}: {e}")
        return
    yield from differences("record", record.model_dump(), again.model_dump())
    yield from names(record)
    if any(trial.planned is None for trial in record.trials):
        return
    yield from design(record)
    groups = Groups(record)
    yield from pairing(groups)
    yield from choices(groups)
    yield from ledger(record)


def files(record: Record, folder: Path) -> Iterator[Disagreement]:
    """Compare every file with what the record gives; of figures, where matplotlib is another, the rest of the page."""
    expected: dict[str, bytes] = {"record.json": dumped(record)}
    expected |= outputs.files(record, folder)
    same_pens = record.environment.packages.get("matplotlib") == version("matplotlib")
    for name, content in expected.items():
        path = folder / name
        words_alone = name.endswith(".html") and not same_pens
        fits = partial(operator.eq, content) if not words_alone else partial(_same_words, content)
        if not path.is_file():
            yield carried.missing(name, folder)
        elif not fits(stored := path.read_bytes()):
            yield carried.lines(name, stored, fits) or Disagreement(name, *_first_difference(stored, content))
    if (wrong := carried.journal(folder / "journal.jsonl", record.journal)) is not None:
        yield wrong


def _same_words(page: bytes, other: bytes) -> bool:
    first, second = (re.sub(rb"<svg.*?</svg>", b"", text, flags=re.DOTALL) for text in (page, other))
    return first == second


def _first_difference(stored: bytes, found: bytes) -> tuple[str, str]:
    at = next((i for i, (a, b) in enumerate(zip(stored, found, strict=False)) if a != b), min(len(stored), len(found)))
    near = slice(max(0, at - 20), at + 20)
    return f"{stored[near]!r} at byte {at:,}", repr(found[near])


def differences(where: str, stored: Any, found: Any) -> Iterator[Disagreement]:
    """Compare plain data, numbers within the tolerance."""
    if isinstance(stored, dict) and isinstance(found, dict) and stored.keys() == found.keys():
        for name in stored:
            yield from differences(f"{where}.{name}", stored[name], found[name])
    elif isinstance(stored, list | tuple) and isinstance(found, list | tuple) and len(stored) == len(found):
        for i, (a, b) in enumerate(zip(stored, found, strict=True)):
            yield from differences(f"{where}[{i}]", a, b)
    elif isinstance(stored, float) and isinstance(found, float):
        if not (math.isclose(stored, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or stored != stored != found):
            yield Disagreement(where, repr(stored), repr(found))
    elif stored != found:
        yield Disagreement(where, repr(stored), repr(found))


def names(record: Record) -> Iterator[Disagreement]:
    """Look whether every student's name is the digest of all that determines it."""
    for trial in record.trials:
        key = "nothing of how it was trained" if trial.planned is None else cell_of(trial).key
        if key != trial.cell:
            yield Disagreement(f"student {trial.name}, seed {trial.seed}", trial.cell, key)


def hardened(record: Record, folder: Path, each: Sequence[Record]) -> Iterator[Disagreement]:
    """Look whether the table of surfaces is what their own audits say, and whether each of these follows."""
    for row, one in zip(record.hardening, each, strict=False):  # none where one surface was audited
        path = folder / row.folder / "record.json"
        try:
            own = surface_row(one, row.folder, hashlib.sha256(path.read_bytes()).hexdigest())
        except ValueError as e:  # of an array
            yield Disagreement(f"surface {row.surface}", row.record, f"a record that cannot be read: {e}")
            continue
        if one.hardening:  # its own surfaces may be these, and so on without end
            yield Disagreement(
                f"surface {row.surface}", f"an audit of {len(one.hardening)} surfaces", "an audit of one"
            )
            continue
        yield from differences(f"surface {row.surface}", row.model_dump(), own.model_dump())
        for found in verify(path.parent):
            yield found._replace(where=f"{row.folder}: {found.where}")
        if row is record.hardening[0]:
            told = record.model_copy(update={"hardening": (), "times": one.times})
            yield from differences(f"record beside {row.folder}", told.model_dump(), one.model_dump())


def ledger(record: Record) -> Iterator[Disagreement]:
    """Look whether the ledger charges what the students were charged."""
    spent: dict[tuple[str, str], int] = {}
    for trial in record.trials:
        if trial.teacher is not None:
            for estimate, images in ((False, trial.charged - trial.estimated), (True, trial.estimated)):
                key = (trial.name, purpose_of(trial.role, trial.teacher, estimate))
                spent[key] = spent.get(key, 0) + images
    charged = {(row.attack, row.purpose): row.charged for row in record.ledger if row.charged}
    for key in sorted(spent.keys() | charged.keys()):
        if spent.get(key, 0) != charged.get(key, 0):
            yield Disagreement(f"ledger, {' '.join(key)}", f"{charged.get(key, 0):,}", f"{spent.get(key, 0):,}")
