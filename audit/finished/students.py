"""Check that each student's trial agrees with itself, with similar students, and with the teacher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.analysis.derive import RecordResults, finding, results
from audit.finished.design import Disagreement, student, unequal
from audit.finished.groups import Groups, Kind, labels_only
from audit.plan.cells import SMOOTHED
from audit.plan.measures import REPEATS
from audit.plan.suite import LS_NAME
from audit.statistics.sequential import Looks
from audit.statistics.verdict import undecided
from reports.record import Comparison, Record, Trial
from teachers.names import truth_digest


def students(groups: Groups) -> Iterator[Disagreement]:
    """Check every student alone, groups of similar students, and the status of each attack."""
    record = groups.record
    teachers = {"audited": record.teacher, "ordinary": record.ordinary or record.teacher}
    right = {who: teacher.test_correct.array() for who, teacher in teachers.items()}
    for trial in record.trials:
        for found in _student(record, trial, right[trial.teacher or "audited"]):
            yield found._replace(where=f"{student(trial)}: {found.where}")
    yield from _alike(groups)
    for row in record.comparisons:
        yield from _sound(groups, row)
        yield from _identical(groups, row)
        yield from _shown(groups, row)
    yield from _open(groups)


def _student(record: Record, trial: Trial, teacher: NDArray[np.bool_]) -> Iterator[Disagreement]:
    budget = trial.cell.budget
    yield from unequal("measured on test images", trial.test_correct is not None, trial.role != "tune")
    if trial.test_correct is not None and trial.test_agrees is not None:
        mine, agrees = trial.test_correct.array(), trial.test_agrees.array()
        if (wrong := np.where(teacher, agrees != mine, agrees & mine)).any():
            told = f"{int(wrong.sum())} images that contradict `correct`"
            yield Disagreement("test_agrees", told, "none")
    if trial.teacher is None:
        yield from unequal("queries", (trial.queries, trial.gradient_queries), (0, 0))
    elif not trial.gradient_queries <= trial.queries <= (trial.queries if budget is None else budget):
        told = f"{trial.queries:,}, {trial.gradient_queries:,} to estimate"
        yield Disagreement("queries", told, f"at most {budget}")
    if trial.kind == "control":
        yield from unequal("regime.source", trial.regime.source, "original")
    if trial.cell.technique == LS_NAME:
        yield from unequal("regime.view", trial.regime.view, trial.cell.parameters.get("view"))
        yield from unequal("regime.recipe", trial.regime.recipe, trial.cell.recipe)
    if trial.step_seconds > trial.seconds + 1:
        yield Disagreement("step_seconds", f"{trial.step_seconds:.1f}", f"at most {trial.seconds:.1f}")
    if trial.cell.pool == record.task.pool_digest:
        asked, held = record.settings.labels, max(record.task.pool_images, 1)
        if abs(trial.labels - asked) > (len(record.task.classes) / held if asked < 1 else 0):
            yield Disagreement("labels", f"{trial.labels:g}", f"{asked:g}")


def _alike(groups: Groups) -> Iterator[Disagreement]:
    """Check that students that differ only in seed have the same regime, and those of one pool the same labels."""
    seen: dict[str, Any] = {}
    for trial in groups.record.trials:
        said = groups.said[trial.key]
        setting = [said[name] for name in ("technique", "parameters", "recipe", "surrogate", "budget")]
        for what, key, value in (
            ("regime", repr(setting), trial.regime),
            ("labels", said["pool"], trial.labels),
        ):
            if seen.setdefault(f"{what} {key}", value) != value:
                yield Disagreement(f"{student(trial)}: {what}", str(value), "the same as for the other students")


def _sound(groups: Groups, row: Comparison) -> Iterator[Disagreement]:
    """Check that no diverged student was judged."""
    other = row.positive_control
    points = (*row.curve, *(other.curve if other else ()))
    keys = {*row.knockoff.students, *(other.students if other else ())}
    for key in sorted(keys.union(*(point.students for point in points))):
        if groups.trials[key].diverged:
            yield Disagreement(f"students of {groups.record.name_of(row)}", "one that diverged", "none")


def _identical(groups: Groups, row: Comparison) -> Iterator[Disagreement]:
    """Check that an attack is marked "identical" exactly where it is identical to its control."""
    if row.status not in ("judged", "identical"):
        return
    record, due, reason = groups.record, "judged", ""
    own = row.control.name == row.attack + SMOOTHED and row.control.parameters == row.knockoff.parameters
    asks_truth = any(s["asks"] == "audited" and s["teacher"] == _truth(record) for s in groups.said.values())
    if own and asks_truth and record.settings.surface == "probs":
        due, reason = "identical", "the teacher answers with smoothed labels"
    elif labels_only(row) and all(t.labels == 1 for t in groups.of(Kind({"pool": record.task.pool_digest}))):
        share = _repeats(groups, row)
        if share >= REPEATS:
            due, reason = "identical", f"the teacher repeats {share:.2%} of the labels"
    yield from unequal(f"status of {record.name_of(row)}", (row.status, row.reason), (due, reason))


def _truth(record: Record) -> str:
    return truth_digest(record.task.pool_digest, int(record.suite.recipe.get("views") or 0))


def _repeats(groups: Groups, row: Comparison) -> float:
    """Return the share of labels that the teacher repeats, from the students that chose an attack's setting."""
    usual = {"kind": "attack", "asks": "audited", "technique": row.attack, "parameters": row.knockoff.parameters}
    mine = Kind({**usual, "recipe": groups.record.suite.recipe | {"architecture": row.student}})
    found = [t for t in groups.of(mine) if t.role == ("tune" if row.knockoff.tuned_over > 1 else "judge")]
    if row.knockoff.tuned_over == 1:
        found = [t for t in found if t.cell.seed == 0]
    shares = [t.repeated_labels for t in found if t.repeated_labels is not None and t.regime.view in ("raw", "crop")]
    return float(np.mean(shares)) if shares else 0.0


def _shown(groups: Groups, row: Comparison) -> Iterator[Disagreement]:
    """Check that no positive control or steal-cost curve was left out although all of its students were trained."""
    suite, name = groups.suite, groups.record.name_of(row)
    if suite is None or row.status == "failed":
        return
    seeds, original = min(suite.bite_seeds, suite.query_seeds), row.holds == "original"
    due = suite.bite_seeds if original else seeds * suite.budgets
    shown = row.positive_control is not None or not (original or suite.budgets > 1)
    if not shown and _made(groups, row, "positive control", "ordinary") >= due:
        yield Disagreement(f"positive control of {name}", "nothing", "what its students show")
    points = _made(groups, row, "cost", "audited")
    if row.knockoff.students and not row.curve and points >= seeds * (suite.budgets - 1) > 0:
        yield Disagreement(f"curve of {name}", "nothing", "what its students show")


def _made(groups: Groups, row: Comparison, role: str, asks: str) -> int:
    """Count an attack's students of one role that query a teacher and did not diverge."""
    due = (row.attack, row.student, role, asks, False)
    home = row.margin_over("home-made")
    apart = set(home.students) if home and labels_only(row) else set()  # they hold all labels
    found = (t for t in groups.record.trials if t.key not in apart)
    return sum((t.cell.technique, t.cell.student, t.role, t.teacher, t.diverged) == due for t in found)


def _looks(facts: RecordResults, row: Comparison) -> Looks | None:
    """Return what an audit looked at to see whether an attack is decided."""
    if not row.knockoff.students:
        return None
    if facts.record.look.outsiders and row.holds != "original":
        return facts.over_largest(row.knockoff.students, row.looks, facts.record.look.horizon)
    return facts.looks(row)


def _open(groups: Groups) -> Iterator[Disagreement]:
    """Check that every undecided attack got all of its looks, unless a diverged control ended them."""
    record, facts = groups.record, results(groups.record)
    rows = [row for row in record.comparisons if row.knockoff.students or row.status == "planned"]
    if any(groups.trials[cell].diverged for row in rows for cell in row.control.students):
        return
    found = [finding(facts, row, _looks(facts, row)) for row in rows]
    left = undecided(found, facts.delta, facts.alpha)
    for row in rows:
        if record.name_of(row) in left and row.looks[-1] < record.suite.seeds:
            told = f"{record.suite.seeds} seeds at the last look, as the attack is undecided"
            yield Disagreement(f"looks of {record.name_of(row)}", repr(row.looks), told)
