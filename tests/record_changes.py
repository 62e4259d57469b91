"""Change a record as a forger would, and write all that says the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audit.analysis.derive import derived
from reports.base import Made
from reports.outputs import write_all
from reports.record import Comparison, PackedArray, PositiveControl, Record, Trial, save

Change = Callable[[Record], Record]


def rewritten(folder: Path, record: Record) -> Path:
    """Write a record and all its reports, as somebody would who knows how."""
    save(record, folder / "record.json")
    write_all(record, folder)
    return folder


def found_in(record: Record, name: str) -> Comparison:
    return next(row for row in (*record.comparisons, *record.controls) if row.attack == name)


def control_of(record: Record, name: str) -> PositiveControl:
    """Return an attack's positive control."""
    found = found_in(record, name).positive_control
    assert found is not None
    return found


def updated(part: Made, changes: dict[str, Any]) -> Made:
    """Return a copy with other values; a dot leads into a part: {"control.students": ()}."""
    for name, value in changes.items():
        outer, _, inner = name.partition(".")
        part = part.model_copy(update={outer: updated(getattr(part, outer), {inner: value}) if inner else value})
    return part


def another(record: Record, audit: str, name: str = "next", lift: float = 0.0, teacher: str = "") -> Record:
    """Return a record of another teacher, whose knockoff students get that share of their mistakes right."""
    rng = np.random.default_rng(int(audit, 16))
    knockoffs = {cell for row in record.comparisons for cell in row.knockoff.students}
    trials = []
    for trial in record.trials:
        if trial.key in knockoffs and trial.test_correct is not None:
            bits = trial.test_correct.array()
            trial = trial.model_copy(update={"test_correct": PackedArray.of(bits | (rng.random(bits.shape) < lift))})
        trials.append(trial)
    info = record.teacher.model_copy(update={"name": name, "sha256": (teacher or audit) * 64})
    return derived(record.model_copy(update={"audit": audit * 64, "teacher": info, "trials": tuple(trials)}))


def changed(part: Any, **values: object) -> Any:
    """Return a part of a record with other values."""
    return replace(part, **values) if is_dataclass(part) else part.model_copy(update=values)


def of_part(part: str, **values: object) -> Change:
    """Change fields of a part."""
    return lambda record: record.model_copy(update={part: changed(getattr(record, part), **values)})


def of_suite(**values: object) -> Change:
    return lambda record: record.model_copy(update={"suite": record.suite.model_copy(update=values)})


def of_look(**values: object) -> Change:
    return lambda record: record.model_copy(update={"look": record.look.model_copy(update=values)})


def of_record(**values: object) -> Change:
    return lambda record: record.model_copy(update=values)


def of_row(name: str, change: Callable[[Record, Comparison], dict[str, object]]) -> Change:
    def changed(record: Record) -> Record:
        rows = tuple(updated(row, change(record, row)) if row.attack == name else row for row in record.comparisons)
        return record.model_copy(update={"comparisons": rows})

    return changed


def of(name: str, change: Callable[[Record], dict[str, object]]) -> Change:
    """Change a row, be it of an attack or of a control."""

    def changed(record: Record) -> Record:
        update = change(record)
        return record.model_copy(
            update={
                part: tuple(updated(r, update) if r.attack == name else r for r in rows)
                for part, rows in (("comparisons", record.comparisons), ("controls", record.controls))
            }
        )

    return changed


def of_positive(name: str, change: Callable[[Record], dict[str, object]]) -> Change:
    """Change an attack's positive control."""
    return of(name, lambda record: {f"positive_control.{key}": value for key, value in change(record).items()})


def of_trials(which: Callable[[Trial], bool], change: Callable[[Trial], dict[str, Any]]) -> Change:
    """Change some students, at least one."""

    def changed(record: Record) -> Record:
        assert any(map(which, record.trials))
        trials = (updated(t, change(t)) if which(t) else t for t in record.trials)
        return record.model_copy(update={"trials": tuple(trials)})

    return changed


def of_ledger(attack: str, purpose: str, **values: object) -> Change:
    def changed(record: Record) -> Record:
        rows = [r.model_copy(update=values) if (r.attack, r.purpose) == (attack, purpose) else r for r in record.ledger]
        return record.model_copy(update={"ledger": tuple(rows)})

    return changed


def of_pool(name: str, change: Callable[[Record, Any], dict[str, object]]) -> Change:
    def changed(record: Record) -> Record:
        pools = (pool.model_copy(update=change(record, pool)) if pool.name == name else pool for pool in record.cmi)
        return record.model_copy(update={"cmi": tuple(pools)})

    return changed


def without(name: str) -> Change:
    """Leave an attack out, with all of its students, as if it had not been asked for."""
    return lambda record: record.model_copy(
        update={
            "comparisons": tuple(row for row in record.comparisons if row.attack != name),
            "trials": tuple(t for t in record.trials if t.cell.technique != name or t.teacher is None),
            "ledger": tuple(row for row in record.ledger if row.attack != name),
        }
    )


def renamed(cells: Callable[[Record], tuple[str, ...]], **update: object) -> Change:
    """Say otherwise of some students what they are, and give them the names that follow."""

    def changed(record: Record) -> Record:
        trials, text, chosen = [], record.model_dump_json(exclude={"trials"}), cells(record)
        for trial in record.trials:
            if trial.key in chosen:
                cell = trial.cell.model_copy(update=update)
                text = text.replace(trial.key, cell.key)
                trial = trial.model_copy(update={"cell": cell, "key": cell.key})
            trials.append(trial)
        return Record.model_validate({**json.loads(text), "trials": [t.model_dump() for t in trials]})

    return changed


def after(*changes: Change) -> Change:
    def changed(record: Record) -> Record:
        for change in changes:
            record = change(record)
        return record

    return changed
