"""Whether each row compares the students that it says, seed by seed, and was judged if and only if it could be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from audit.derive import usual
from audit.finished.design import Disagreement
from reports.record import Comparison, Record, Trial
from teachers.kinds import offers

SMOOTHED = " of smoothed labels"  # ends the name of a control that has the attack's own loss


def pairing(record: Record) -> Iterator[Disagreement]:
    """Look whether the rows compare all judged students, each with its control of the same seed, and nothing else."""
    for cell, number in Counter(trial.cell for trial in record.trials).items():
        if number > 1:
            yield Disagreement("trials", f"student {cell} {number} times", "once")
    trials = {trial.cell: trial for trial in record.trials}
    teachers = set()
    for row in record.comparisons:
        yield from _status(record, row)
        yield from _students(record, row, trials)
        yield from _controls(record, row, trials)
        teachers |= {plan.fingerprint for cell in row.students if (plan := trials[cell].planned) is not None}
    if len(teachers) > 1:
        yield Disagreement("teachers of the judged students", str(len(teachers)), "1")


def judged(record: Record, row: Comparison) -> list[Trial]:
    """Return an attack's judged students by seed."""
    same = (
        t for t in record.trials if (t.name, t.student, t.role, t.kind) == (row.attack, row.student, "judge", "attack")
    )
    return sorted((t for t in same if t.teacher == "audited"), key=lambda t: t.seed)


def _status(record: Record, row: Comparison) -> Iterator[Disagreement]:
    where, surface = f"status of {record.named(row)}", record.settings.surface
    if offers(surface, row.needs) == (row.status == "not applicable"):
        yield Disagreement(where, row.status, f"it needs {row.needs}, the surface shows {surface}")
    if (row.status == "judged") != bool(row.students):
        yield Disagreement(where, row.status, f"{len(row.students)} students in its row")
    trained = judged(record, row)
    most = {"not applicable": 0, "identical": 1}.get(row.status, len(trained))  # one may tell that it is identical
    if len(trained) > most:
        yield Disagreement(where, row.status, f"{len(trained)} judged students")


def _students(record: Record, row: Comparison, trials: dict[str, Trial]) -> Iterator[Disagreement]:
    where = f"students of {record.named(row)}"
    for seed, cell in enumerate(row.students):
        trial, plan = trials[cell], trials[cell].planned
        found = (trial.kind, trial.teacher, trial.name, trial.student, trial.parameters, trial.seed, trial.budget)
        due = ("attack", "audited", row.attack, row.student, row.parameters, seed, record.settings.budget)
        if found != due:
            yield Disagreement(where, str(found), str(due))
        if plan is None or not usual(record, trial) or plan.surface != record.settings.surface:
            yield Disagreement(where, cell, "a student of another recipe or surface, or none that is known")
        elif row.holds == "original" and plan.pool != record.task.pool_digest:
            yield Disagreement(where, cell, "a student of another attacker's images")
    left = {trial.cell for trial in judged(record, row)} - set(row.students)
    if row.students and left:
        yield Disagreement(where, f"{len(row.students)} students", f"{len(left)} more that were judged")


def _controls(record: Record, row: Comparison, trials: dict[str, Trial]) -> Iterator[Disagreement]:
    where, own = f"controls of {record.named(row)}", _seeds(trials, row.students)
    if (seeds := _seeds(trials, row.control_students)) != own:
        yield Disagreement(where, f"seeds {seeds}", f"seeds {own}")
    due = ("control", None, row.control.removesuffix(SMOOTHED), row.student, row.control_parameters)
    matched = trials[row.students[0]].regime.recipe if row.students else {}
    recipes = (record.suite.recipe | {"architecture": row.student}, matched)  # the plain one, or the attack's
    for cell in row.control_students:
        trial, plan = trials[cell], trials[cell].planned
        found = (trial.kind, trial.teacher, trial.name, trial.student, trial.parameters)
        if found != due:
            yield Disagreement(where, str(found), str(due))
        if plan is None or plan.pool != record.task.pool_digest or plan.recipe not in recipes:
            yield Disagreement(where, cell, "a student of other images or another recipe, or none that is known")


def _seeds(trials: dict[str, Trial], cells: Sequence[str]) -> list[int]:
    return [trials[cell].seed for cell in cells]
