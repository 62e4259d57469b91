"""Forged margins: a control over which an attack has a margin is left out, exchanged or made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from record_changes import Change, after, found_in, of, renamed

from audit.plan.design import own_teacher
from reports.record import ControlMargin, Over, PackedArray, Record, Trial
from teachers.names import own_teacher_digest

KINDS: tuple[Over, ...] = ("ls", "own loss", "twin", "home-made")


def over(record: Record, name: str, kind: Over) -> ControlMargin:
    found = found_in(record, name).margin_over(kind)
    assert found is not None
    return found


def without_margin(name: str, *kinds: Over) -> Change:
    """Leave margins of an attack out."""
    return of(name, lambda r: {"margins": tuple(m for m in found_in(r, name).margins if m.over not in kinds)})


def of_margin(name: str, kind: Over, change: Callable[[Record], dict[str, Any]]) -> Change:
    """Change one margin of an attack."""

    def values(record: Record) -> dict[str, object]:
        new = change(record)
        rows = found_in(record, name).margins
        return {"margins": tuple(m.model_copy(update=new) if m.over == kind else m for m in rows)}

    return of(name, values)


def _students(name: str, kind: Over) -> Callable[[Record], tuple[str, ...]]:
    return lambda record: over(record, name, kind).students


@dataclass(frozen=True)
class Renamed:
    """Say that the first student of a margin asked another teacher of the attacker's own."""

    name: str
    kind: Over
    digest: Callable[[Trial, str], str]
    own: str

    def __call__(self, record: Record) -> Record:
        key = _students(self.name, self.kind)(record)[0]
        first = next(t for t in record.trials if t.key == key)
        return renamed(lambda _: (key,), teacher=self.digest(first, self.own))(record)


def _of(trial: Trial, kind: str, number: int = 0, **other: str) -> str:
    cell = trial.cell
    held = {"task": cell.task, "pool": cell.pool, "student": cell.student, "device": cell.device} | other
    return own_teacher_digest(kind, **held, number=number)


def like(kind: Over, other: Over) -> Change:
    """Let an attack's margin be over the students of another one."""
    return of_margin(
        "soft-kd",
        kind,
        lambda r: {
            field: getattr(over(r, "soft-kd", other), field) for field in ("name", "parameters", "students", "accuracy")
        },
    )


def diverging(record: Record) -> Record:
    chosen = _students("dist", "twin")(record)
    trials = (t.model_copy(update={"diverged": t.diverged or t.key == chosen[0]}) for t in record.trials)
    return record.model_copy(update={"trials": tuple(trials)})


def _tuned_on_a_twin(record: Record, *, chosen: bool) -> set[str]:
    setting = over(record, "soft-kd", "twin").parameters
    asked = (t for t in record.trials if t.cell.technique == "soft-kd" and t.role == "tune")
    found = {t.key for t in asked if own_teacher(t.cell) == "twin" and (t.cell.parameters == setting) == chosen}
    assert found
    return found


def stronger(record: Record) -> Record:
    """Let another setting be right on all validation images than the one that the margin over a twin has."""
    gone, right = _tuned_on_a_twin(record, chosen=False), PackedArray.of(np.ones(record.task.validation, bool))
    trials = (t.model_copy(update={"validation_correct": right}) if t.key in gone else t for t in record.trials)
    return record.model_copy(update={"trials": tuple(trials)})


def untuned_twin(record: Record) -> Record:
    gone = _tuned_on_a_twin(record, chosen=False)
    return record.model_copy(update={"trials": tuple(t for t in record.trials if t.key not in gone)})


FORGED: dict[str, tuple[Change, str]] = {
    "no margin over a twin": (without_margin("soft-kd", "twin"), "margins of soft-kd"),
    "no margin over a twin of labels alone": (without_margin("label-mixup", "twin"), "margins of label-mixup"),
    "no margin over the LS student": (without_margin("dist", "ls"), "margins of dist"),
    "no margin over the own loss": (without_margin("dist", "own loss"), "margins of dist"),
    "no margin over a home-made teacher": (without_margin("soft-kd", "home-made"), "margins of soft-kd"),
    "no margins at all": (without_margin("soft-kd", *KINDS), "margins of soft-kd"),
    "a margin twice": (
        of("soft-kd", lambda r: {"margins": (*found_in(r, "soft-kd").margins, over(r, "soft-kd", "twin"))}),
        "margins of soft-kd",
    ),
    "margins in another order": (
        of("soft-kd", lambda r: {"margins": found_in(r, "soft-kd").margins[::-1]}),
        "margins of soft-kd",
    ),
    "a margin of an attack without original images": (
        of("knockoff", lambda r: {"margins": (over(r, "soft-kd", "ls"),)}),
        "margins of knockoff",
    ),
    "a twin that is the own loss": (like("twin", "own loss"), "twin of soft-kd"),
    "a twin that is the LS student": (like("twin", "ls"), "twin of soft-kd"),
    "a twin that is the home-made teacher": (like("twin", "home-made"), "twin of soft-kd"),
    "an own loss that is a twin": (like("own loss", "twin"), "own loss of soft-kd"),
    "an LS student with the own loss": (like("ls", "own loss"), "ls of soft-kd"),
    "a home-made teacher that is a twin": (like("home-made", "twin"), "home-made of soft-kd"),
    "a home-made teacher that is the audited one": (
        of_margin("soft-kd", "home-made", lambda r: {"students": found_in(r, "soft-kd").knockoff.students}),
        "home-made of soft-kd",
    ),
    "a twin of another attack": (
        of_margin("soft-kd", "twin", lambda r: {"students": over(r, "dist", "twin").students}),
        "twin of soft-kd",
    ),
    "a twin under another name": (of_margin("soft-kd", "twin", lambda r: {"name": "soft-kd"}), "twin of soft-kd"),
    "a twin of another setting": (
        of_margin("soft-kd", "twin", lambda r: {"parameters": {"temperature": 9.0, "weight": 0.9}}),
        "setting of twin of soft-kd",
    ),
    "students of a twin of another setting": (
        after(
            renamed(_students("soft-kd", "twin"), parameters={"temperature": 9.0, "weight": 0.9}),
            of_margin("soft-kd", "twin", lambda r: {"parameters": {"temperature": 9.0, "weight": 0.9}}),
        ),
        "settings of twin of soft-kd",
    ),
    "a weaker setting of a twin": (stronger, "settings of twin of soft-kd"),
    "a twin that was tuned over fewer settings": (untuned_twin, "settings of twin of soft-kd"),
    "a twin's students turned round": (
        of_margin("dist", "twin", lambda r: {"students": over(r, "dist", "twin").students[::-1]}),
        "twin of dist",
    ),
    "fewer students of a twin": (
        of_margin("dist", "twin", lambda r: {"students": over(r, "dist", "twin").students[:1]}),
        "twin of dist",
    ),
    "a twin behind another surface": (renamed(_students("dist", "twin"), surface="top:1"), "student dist, seed 0"),
    "a twin of another student": (
        Renamed("dist", "twin", lambda t, kind: _of(t, kind, student="mlp-8"), "twin"),
        "twin of dist",
    ),
    "a twin of another seed": (
        Renamed("dist", "twin", lambda t, kind: _of(t, kind, number=1), "twin"),
        "twin of dist",
    ),
    "a twin of other images": (
        Renamed("dist", "twin", lambda t, kind: _of(t, kind, pool="0" * 64), "twin"),
        "twin of dist",
    ),
    "a twin of another task": (
        Renamed("dist", "twin", lambda t, kind: _of(t, kind, task="0" * 64), "twin"),
        "twin of dist",
    ),
    "a twin of another device": (
        Renamed("dist", "twin", lambda t, kind: _of(t, kind, device="cuda"), "twin"),
        "twin of dist",
    ),
    "a twin that is no teacher of the attacker's own": (
        renamed(_students("dist", "twin"), teacher="0" * 64),
        "twin of dist",
    ),
    "a twin that is a home-made teacher by its digest": (
        Renamed("dist", "twin", _of, "home-made"),
        "twin of dist",
    ),
    "a student of a twin that diverged": (diverging, "twin of dist"),
}
