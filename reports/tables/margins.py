"""The table of an attack's margins over each kind of control."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from reports.record import Comparison, ControlMargin, Record
from reports.tables.table import Column, Table, bounded, settings


class MarginRow(NamedTuple):
    """A margin and the attack that has it."""

    row: Comparison
    found: ControlMargin


def _margins(record: Record) -> Iterator[MarginRow]:
    return (MarginRow(row, found) for row in record.comparisons for found in row.margins)


MARGINS: Final[Table[MarginRow]] = Table(
    "margins",
    "One row for every attack and every kind of control over which it has a margin. Records of earlier versions of the "
    "design have none.",
    _margins,
    (
        Column("attack", "text", "name", lambda m: m.row.attack),
        Column("student", "text", "architecture", lambda m: m.row.student),
        Column("over", "text", "kind of control: ls, own loss, twin or home-made", lambda m: m.found.over),
        Column("control", "text", "the control's name", lambda m: m.found.name),
        Column("control_parameters", "text", "the control's settings, JSON", lambda m: settings(m.found.parameters)),
        Column(
            "control_accuracy",
            "number",
            "accuracy of the control's students on test images, fraction",
            lambda m: m.found.accuracy,
        ),
        *bounded("margin", "", lambda m: m.found.margin, "accuracy above the control's students, fraction"),
        Column("lower", "number", "one-sided 95 % lower bound, over all looks", lambda m: m.found.margin.lower),
        Column("upper", "number", "one-sided 95 % upper bound, over all looks", lambda m: m.found.margin.upper),
        Column("p", "number", "one-sided p-value of a margin above 0, over all looks", lambda m: m.found.margin.p),
        Column("seeds", "count", "training seeds compared", lambda m: m.found.margin.seeds),
    ),
)
