"""Check that all students belong to one audit, that rows compare the right ones, and that each status is correct."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from audit.finished.design import Disagreement, student
from audit.finished.groups import Group, Groups, Said, agree
from audit.finished.margins import every, margins, ordinary_surface
from reports.record import Comparison, Record, Trial
from teachers.kinds import offers
from teachers.names import TWIN


def pairing(groups: Groups) -> Iterator[Disagreement]:
    """Check that rows compare all judged students, each with its control of the same seed, and no others."""
    record = groups.record
    for cell, number in Counter(trial.key for trial in record.trials).items():
        if number > 1:
            yield Disagreement("trials", f"student {cell} {number} times", "each student once")
    for row in record.comparisons:
        yield from _status(record, row)
    yield from _alike(groups)
    yield from margins(groups)
    for group in every(groups):
        yield from _held(groups, group)


def judged(record: Record, row: Comparison) -> list[Trial]:
    """Return an attack's judged students, ordered by seed."""
    due = (row.attack, row.student, "judge", "attack", "audited")
    same = (t for t in record.trials if (t.cell.technique, t.cell.student, t.role, t.kind, t.teacher) == due)
    return sorted(same, key=lambda t: t.cell.seed)


def _status(record: Record, row: Comparison) -> Iterator[Disagreement]:
    where, surface = f"status of {record.name_of(row)}", record.settings.surface
    if offers(surface, row.needs) == (row.status == "not applicable"):
        yield Disagreement(where, row.status, f"another: it needs {row.needs}, the surface shows {surface}")
    students = row.knockoff.students
    if (row.status == "judged") != bool(students):
        yield Disagreement(where, row.status, f"another: its row has {len(students)} students")
    trained = judged(record, row)
    if students and (left := {trial.key for trial in trained} - set(students)):
        yield Disagreement(
            f"students of {record.name_of(row)}", f"{len(students)}", f"{len(left)} more, which were judged"
        )
    most = {"not applicable": 0, "planned": 0, "identical": 1}.get(row.status, len(trained))  # one shows it
    if len(trained) > most:
        yield Disagreement(where, row.status, f"another: it has {len(trained)} judged students")


def _alike(groups: Groups) -> Iterator[Disagreement]:
    """Check that all students have the same task and device, and query the teachers that their trials state."""
    record = groups.record
    surface = record.settings.surface
    shown = {"audited": surface, "ordinary": ordinary_surface(surface)}
    first = {asks: next((s["teacher"] for s in groups.said.values() if s["asks"] == asks), None) for asks in shown}
    same: dict[str, Any] = {}
    for trial in record.trials:
        said = groups.said[trial.key]
        asks = {"teacher": first.get(said["asks"]), "surface": shown.get(said["asks"])}
        if trial.teacher is None and said["smoothed"] is not None:
            asks = {"surface": "probs"}
        elif trial.teacher is None and said["own"] is not None:
            asks = {"surface": surface if said["own"] == TWIN else ordinary_surface(surface)}
        due = {
            "engine": same.setdefault("", said["engine"]),
            "version": same.setdefault(trial.cell.technique, said["version"]),
            "task": record.task.digest,
            "device": record.settings.device,
            "splits": "validation" if trial.role == "tune" else "both",
            "kind": "control" if trial.teacher is None else "attack",
            **asks,
        }
        if not agree(said, due):
            yield _differs(student(trial), said, due)
    if first["audited"] == first["ordinary"] and shown["audited"] == shown["ordinary"] and first["audited"]:
        yield Disagreement(
            "teachers of the students", "the audited one, also called ordinary", "two teachers, or none called ordinary"
        )
    other = record.ordinary or record.teacher
    if groups.ordinary == "audited" and other.test_correct != record.teacher.test_correct:
        yield Disagreement("teachers of the students", "the audited one alone", "the ordinary one, too")


def _held(groups: Groups, group: Group) -> Iterator[Disagreement]:
    """Check that a group's students have the kind, setting and seeds that its row states."""
    if len(group.cells) != len(group.seeds):
        yield Disagreement(
            group.where, f"{len(group.cells)} students", f"{len(group.seeds)} students, one for each seed"
        )
    kinds = [kind.due | group.says for kind in group.kinds]
    if group.cells:
        first = groups.said[group.cells[0]]
        like = next((kind for kind in kinds if agree(first, kind)), kinds[0] if kinds else {})
        setting = {name: first[name] for name in ("parameters", "recipe", "smoothed", "own")}
        for seed, cell in zip(group.seeds, group.cells, strict=False):
            due = setting | like | {"seed": seed, "splits": "both"}
            if not agree(groups.said[cell], due):
                yield _differs(group.where, groups.said[cell], due)


def _differs(where: str, said: Said, due: Said) -> Disagreement:
    names = [name for name, value in due.items() if said[name] != value]
    return Disagreement(where, *(", ".join(f"{name} {found[name]}" for name in names) for found in (said, due)))
