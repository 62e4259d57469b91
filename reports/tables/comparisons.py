"""The tables of comparisons: attacks, controls, their pairs of students, steal-cost curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Final, NamedTuple

from reports.record import Comparison, Cost, Interval, Record
from reports.tables.table import Column, Table, bounded, settings
from reports.wording import distils


class ComparisonRow(NamedTuple):
    """The comparison of an attack or control, and its record."""

    record: Record
    row: Comparison


class StudentPair(NamedTuple):
    """The students of a comparison that are paired by seed; None where one side has fewer students."""

    row: Comparison
    seed: int | None
    student: str | None
    control: str | None
    baseline: str | None


class Point(NamedTuple):
    """A point of a steal-cost curve."""

    row: Comparison
    teacher: str
    cost: Cost


def _compared(record: Record) -> Iterator[ComparisonRow]:
    return (ComparisonRow(record, row) for row in record.comparisons)


def _controls(record: Record) -> Iterator[ComparisonRow]:
    return (ComparisonRow(record, row) for row in record.controls)


def _pairs(record: Record) -> Iterator[StudentPair]:
    seeds = {trial.key: trial.cell.seed for trial in record.trials}
    for row in (*record.comparisons, *record.controls):
        beside = () if row.baseline is None else row.baseline.students
        for mine, control, baseline in zip_longest(row.knockoff.students, row.control.students, beside):
            yield StudentPair(row, seeds.get(mine or control or baseline), mine, control, baseline)


def _points(record: Record) -> Iterator[Point]:
    for row in record.comparisons:
        other = () if row.positive_control is None else row.positive_control.curve
        for teacher, curve in (("audited", row.curve), ("ordinary", other)):
            yield from (Point(row, teacher, cost) for cost in curve)


def _in_margin(of: Callable[[Interval], float]) -> Callable[[ComparisonRow], float | None]:
    return lambda own: None if own.row.margin is None else of(own.row.margin)


def _positive(own: ComparisonRow) -> Interval | None:
    return None if own.row.positive_control is None else own.row.positive_control.margin


def _student(own: ComparisonRow) -> str:
    return own.row.student or own.record.settings.student


def _count(of: Callable[[Interval], int]) -> Callable[[ComparisonRow], int | None]:
    return lambda own: None if own.row.margin is None else of(own.row.margin)


_SETTINGS: Final[tuple[Column[ComparisonRow], ...]] = (
    Column("status", "text", "judged, identical (to its control), not applicable or failed", lambda c: c.row.status),
    Column("reason", "text", "why, where it was not judged", lambda c: c.row.reason),
    Column(
        "parameters",
        "text",
        "settings, chosen on validation images, JSON",
        lambda c: settings(c.row.knockoff.parameters),
    ),
    Column("tuned_over", "count", "settings tried", lambda c: c.row.knockoff.tuned_over),
    Column("control", "text", "the student without the teacher that it is compared with", lambda c: c.row.control.name),
    Column("control_parameters", "text", "the control's settings, JSON", lambda c: settings(c.row.control.parameters)),
)
_MARGIN: Final[tuple[Column[ComparisonRow], ...]] = (
    Column(
        "accuracy", "number", "accuracy of its students on test images, fraction", lambda c: c.row.knockoff.accuracy
    ),
    Column(
        "control_accuracy",
        "number",
        "accuracy of the students it is paired with, fraction",
        lambda c: c.row.control.accuracy,
    ),
    *bounded("margin", "", lambda c: c.row.margin, "`accuracy` − `control_accuracy`, fraction"),
    Column("lower", "number", "one-sided 95 % lower bound, over all looks", _in_margin(lambda m: m.lower)),
    Column("upper", "number", "one-sided 95 % upper bound, over all looks", _in_margin(lambda m: m.upper)),
    Column("p", "number", "one-sided p-value of a margin above 0, over all looks", _in_margin(lambda m: m.p)),
    Column("seeds", "count", "training seeds compared", _count(lambda m: m.seeds)),
    Column("images", "count", "test images compared", _count(lambda m: m.images)),
    Column("discordant", "number", "test images per seed on which the two differ", _in_margin(lambda m: m.discordant)),
)

ATTACKS: Final[Table[ComparisonRow]] = Table(
    "attacks",
    "One row for every attack on every student architecture, behind the surface of this record.",
    _compared,
    (
        Column("attack", "text", "name", lambda c: c.row.attack),
        Column("student", "text", "architecture", _student),
        Column("surface", "text", "what the API shows", lambda c: c.record.settings.surface),
        Column("title", "text", "title, one line", lambda c: c.row.title),
        Column("paper", "text", "its source", lambda c: c.row.paper),
        Column(
            "holds", "text", "images that the attacker holds: original, surrogate or no data", lambda c: c.row.holds
        ),
        Column("needs", "text", "the least an answer must hold: probs, label or gradients", lambda c: c.row.needs),
        Column("outside_suite", "truth", "whether it is not part of the suite", lambda c: c.row.outside_suite),
        *_SETTINGS,
        *_MARGIN,
        Column(
            "corrected_lower",
            "number",
            "lower bound, corrected for the number of attacks",
            lambda c: c.row.corrected_lower,
        ),
        Column("p_holm", "number", "`p` after Holm's correction over all attacks", lambda c: c.row.p_holm),
        Column(
            "distils", "truth", "whether `p_holm` is below the verdict's error rate", lambda c: distils(c.row, c.record)
        ),
        Column("looks", "count", "number of looks", lambda c: len(c.row.looks)),
        Column(
            "agreement",
            "number",
            "how often its students name the teacher's class, fraction",
            lambda c: c.row.knockoff.agreement,
        ),
        Column("queries", "count", "images that one student queried", lambda c: c.row.knockoff.queries),
        Column(
            "passes_positive_control",
            "truth",
            "whether it passes the positive control: it works on the ordinary teacher",
            lambda c: None if c.row.positive_control is None else c.row.positive_control.passes,
        ),
        Column(
            "positive_control_baseline",
            "text",
            "the baseline that it must beat there",
            lambda c: None if c.row.positive_control is None else c.row.positive_control.baseline,
        ),
        *bounded("positive_control_margin", "positive_control_", _positive, "margin over that baseline, fraction"),
        Column(
            "baseline",
            "text",
            "the best student without a teacher, on validation images",
            lambda c: None if c.row.baseline is None else c.row.baseline.name,
        ),
        *bounded(
            "baseline_margin",
            "baseline_",
            lambda c: c.row.baseline and c.row.baseline.margin,
            "margin over that baseline, which does not affect the verdict, fraction",
        ),
        Column(
            "dropped_accuracy",
            "number",
            "accuracy on classes that the attacker never saw, fraction",
            lambda c: c.row.knockoff.dropped_accuracy,
        ),
        Column(
            "control_dropped_accuracy",
            "number",
            "accuracy of its control on these classes, fraction",
            lambda c: c.row.control.dropped_accuracy,
        ),
    ),
)
CONTROLS: Final[Table[ComparisonRow]] = Table(
    "controls",
    "One row for every comparison of students without the teacher: the null control (LS students with LS students of "
    "other seeds) and the other baselines.",
    _controls,
    (
        Column("name", "text", "name of the technique", lambda c: c.row.attack),
        Column("student", "text", "architecture", _student),
        Column("title", "text", "title, one line", lambda c: c.row.title),
        *_SETTINGS,
        *_MARGIN,
    ),
)
PAIRS: Final[Table[StudentPair]] = Table(
    "pairs",
    "Which students a row of `attacks` or `controls` compares, seed by seed; keys of `students`.",
    _pairs,
    (
        Column("attack", "text", "`attack` of `attacks`, or `name` of `controls`", lambda p: p.row.attack),
        Column("student", "text", "architecture", lambda p: p.row.student),
        Column("seed", "count", "training seed of `key`", lambda p: p.seed),
        Column("key", "text", "the student", lambda p: p.student),
        Column("control_key", "text", "the student that it is paired with", lambda p: p.control),
        Column("baseline_key", "text", "the baseline's student with that seed", lambda p: p.baseline),
    ),
)
CURVES: Final[Table[Point]] = Table(
    "curves",
    "One row for every point of a steal-cost curve: fresh students for every budget.",
    _points,
    (
        Column("attack", "text", "name", lambda p: p.row.attack),
        Column("student", "text", "architecture", lambda p: p.row.student),
        Column("teacher", "text", "audited or ordinary", lambda p: p.teacher),
        Column("queries", "count", "queries of one student", lambda p: p.cost.queries),
        *bounded("accuracy", "", lambda p: p.cost.accuracy, "accuracy on the test images, fraction"),
        Column(
            "agreement", "number", "how often they name their teacher's class, fraction", lambda p: p.cost.agreement
        ),
        Column("seeds", "count", "number of students", lambda p: p.cost.accuracy.seeds),
    ),
)
