"""Small audits that verify, made from the shipped one by saying of its students what they got right."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from shipped import DEMO

from audit.analysis.derive import derived, surface_row
from audit.finished import identity
from audit.plan.suite import EARLIER, EFFORTS
from reports.outputs import write_all
from reports.record import Comparison, PackedArray, Record, load, save

CREATED = "2026-06-01T12:00:00+00:00"
WON, LOST = 900, 100  # test images on which a student is right, or wrong, where its LS student is not
SMOKE = EARLIER["smoke"]  # what the shipped audit ran
GATE = replace(SMOKE, name="gate-1", tuning_seeds=2)  # tuned twice: no flag stands against a word
ABOVE, BELOW, CLOSE, OPEN = (WON, LOST), (LOST, WON), (150, 150), (200, 180)


@contextmanager
def registered() -> Iterator[None]:
    """Let `gate-1` be a suite that is known by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EFFORTS, "gate", GATE)
        yield


@cache
def plain() -> Record:
    """Return the shipped audit, INCONCLUSIVE, and of a suite of its own, tuned twice."""
    record = load(DEMO)
    times = record.times.model_copy(update={"created": CREATED})
    suite = record.suite.model_copy(
        update={"name": GATE.name, "digest": GATE.digest, "tuning_seeds": GATE.tuning_seeds}
    )
    again = ((t, t.cell.model_copy(update={"seed": t.cell.seed + 1})) for t in record.trials if t.role == "tune")
    trials = (*record.trials, *(t.model_copy(update={"cell": cell, "key": cell.key}) for t, cell in again))
    ledger = tuple(
        row.model_copy(update={"charged": 2 * row.charged}) if row.purpose.startswith("tune") else row
        for row in record.ledger
    )
    asked = replace(record.settings, effort="gate")
    update = {"settings": asked, "times": times, "suite": suite, "trials": trials, "ledger": ledger}
    return made(record.model_copy(update=update))


def made(record: Record) -> Record:
    """Return a record with all that follows from it, its name included."""
    with registered():
        return derived(record.model_copy(update={"audit": next(iter(identity.names(record)), record.audit)}))


def known(record: Record, differing: Mapping[str, tuple[int, int]], salt: int = 0) -> Record:
    """Return a record in which each attack's students are right on so many images more, and wrong on so many more,
    than the LS students that they are paired with."""
    bits: dict[str, tuple[PackedArray, PackedArray]] = {}
    teacher = record.teacher.test_correct
    for row in record.comparisons:
        won, lost = differing.get(row.attack, BELOW)
        rng = np.random.default_rng([salt * (row.attack in differing), *row.attack.encode()])
        for cell, right in zip(row.knockoff.students, record.correct(row.control.students), strict=True):
            mine = right.copy()
            mine[rng.permutation(np.flatnonzero(~right))[:won]] = True
            mine[rng.permutation(np.flatnonzero(right))[:lost]] = False
            bits[cell] = PackedArray.of(mine), PackedArray.of(mine & teacher.array())
    trials = tuple(
        t.model_copy(update=dict(zip(("test_correct", "test_agrees"), bits[t.key], strict=True)))
        if t.key in bits
        else t
        for t in record.trials
    )
    return made(record.model_copy(update={"trials": trials}))


def aside(record: Record, status: str, *names: str) -> Record:
    """Return a record in which some attacks, or all, were not judged."""
    kept = dict.fromkeys(("attack", "student", "title", "paper", "holds", "needs"), True)
    rows = tuple(
        Comparison(
            **row.model_dump(include={**kept, "knockoff": {"parameters"}}), status=status, reason="as the test has it"
        )  # type: ignore[arg-type]
        if not names or row.attack in names
        else row
        for row in record.comparisons
    )
    look = record.look.model_copy(update={"number": max(len(row.looks) for row in rows)})
    return made(record.model_copy(update={"comparisons": rows, "look": look}))


@cache
def undistillable() -> Record:
    """Return an audit in which no attack gains."""
    return known(plain(), {})


@cache
def distillable() -> Record:
    """Return one in which soft KD gains, and nothing else."""
    return known(plain(), {"soft-kd": ABOVE})


RECORDS: dict[str, Callable[[], Record]] = {
    "UNDISTILLABLE": undistillable,
    "DISTILLABLE": distillable,
    "INCONCLUSIVE": lambda: known(plain(), {"soft-kd": OPEN}),
    "close": lambda: known(plain(), {"soft-kd": CLOSE}),
}


FILES: dict[str, dict[str, bytes]] = {}  # of each audit that was written, by its records


def once(audit: str, write: Callable[[Path], None], folder: Path) -> Path:
    """Write the files of an audit: the first time as `write` does, later as they were."""
    if audit not in FILES:
        with TemporaryDirectory() as place:
            write(Path(place))
            files = [path for path in Path(place).rglob("*") if path.is_file()]
            FILES[audit] = {str(path.relative_to(place)): path.read_bytes() for path in files}
    for name, content in FILES[audit].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def written(record: Record, folder: Path) -> Path:
    """Write an audit as `audit run` does."""

    def write(place: Path) -> None:
        shutil.copyfile(DEMO / "journal.jsonl", place / "journal.jsonl")
        save(record, place / "record.json")
        write_all(record, place)

    return once(record.model_dump_json(), write, folder)


def on(record: Record, surface: str) -> Record:
    """Return an audit of another surface, whose students have other names."""
    names, trials = {}, []
    for trial in record.trials:
        cell = trial.cell if trial.teacher is None else trial.cell.model_copy(update={"surface": surface})
        names[trial.key] = cell.key
        trials.append(trial.model_copy(update={"cell": cell, "key": cell.key}))
    text = record.model_copy(update={"trials": tuple(trials)}).model_dump_json()
    for old, new in names.items():
        text = text.replace(old, new)
    asked = replace(record.settings, surface=surface)
    return Record.model_validate_json(text).model_copy(update={"settings": asked})


def several(records: Mapping[str, Record], folder: Path) -> Path:
    """Write an audit of several surfaces."""
    audit = json.dumps({surface: record.model_dump_json() for surface, record in records.items()})
    return once(audit, lambda place: _several(records, place), folder)


def _several(records: Mapping[str, Record], folder: Path) -> None:
    rows = []
    for surface, record in records.items():
        own = written(made(on(record, surface)), folder / "surfaces" / surface) / "record.json"
        rows.append(surface_row(load(own), f"surfaces/{surface}", hashlib.sha256(own.read_bytes()).hexdigest()))
    first = load(folder / rows[0].folder)
    shutil.copytree(folder / rows[0].folder, folder, dirs_exist_ok=True)
    whole = first.model_copy(update={"surfaces": tuple(rows)})
    save(whole, folder / "record.json")
    write_all(whole, folder)
