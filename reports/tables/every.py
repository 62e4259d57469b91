"""Every table of a record."""

from __future__ import annotations

from typing import Any, Final

from reports.tables.comparisons import ATTACKS, CONTROLS, CURVES, PAIRS
from reports.tables.evidence import CLASSES, CMI, FLAGS, LEDGER, STUDENTS, SURFACES
from reports.tables.margins import MARGINS
from reports.tables.summary import SUMMARY
from reports.tables.table import Table

EVERY: Final[tuple[Table[Any], ...]] = (
    SUMMARY,
    ATTACKS,
    CONTROLS,
    STUDENTS,
    PAIRS,
    CURVES,
    MARGINS,
    CMI,
    CLASSES,
    LEDGER,
    FLAGS,
    SURFACES,
)
