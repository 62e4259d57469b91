"""All tables of a record, column by column."""

from reports.tables.comparisons import ATTACKS, CONTROLS, CURVES, PAIRS
from reports.tables.every import EVERY
from reports.tables.evidence import CLASSES, CMI, FLAGS, LEDGER, STUDENTS, SURFACES
from reports.tables.margins import MARGINS
from reports.tables.summary import SUMMARY

__all__ = [
    "ATTACKS",
    "CLASSES",
    "CMI",
    "CONTROLS",
    "CURVES",
    "EVERY",
    "FLAGS",
    "LEDGER",
    "MARGINS",
    "PAIRS",
    "STUDENTS",
    "SUMMARY",
    "SURFACES",
]
