"""Every table of a record, column by column."""

from typing import Any, Final

from reports.tables.comparisons import ATTACKS, CONTROLS, CURVES, PAIRS
from reports.tables.evidence import CLASSES, CMI, FLAGS, LEDGER, STUDENTS, SURFACES
from reports.tables.summary import SUMMARY
from reports.tables.table import DTYPES, Table

__all__ = [
    "ATTACKS",
    "CLASSES",
    "CMI",
    "CONTROLS",
    "CURVES",
    "EVERY",
    "FLAGS",
    "LEDGER",
    "PAIRS",
    "STUDENTS",
    "SUMMARY",
    "SURFACES",
]

EVERY: Final[tuple[Table[Any], ...]] = (
    SUMMARY,
    ATTACKS,
    CONTROLS,
    STUDENTS,
    PAIRS,
    CURVES,
    CMI,
    CLASSES,
    LEDGER,
    FLAGS,
    SURFACES,
)

_HEAD = """# Tables

What `audit.load(DIR)` gives as data frames, and what `audit report DIR --format csv,parquet` writes into `DIR/tables/`
([notebooks](notebooks.md)). Take columns by name: a later version may add some, it renames none. Shares, accuracies and
margins are fractions (0.01 is one point), CMI is in nats. What is missing is NaN in `str` and `float64`, `pd.NA` in
`Int64` and `boolean`.
"""


def page() -> str:
    """Write docs/tables.md."""
    parts = [_HEAD]
    for table in EVERY:
        rows = [f"| `{c.name}` | `{DTYPES[c.kind]}` | {c.says} |" for c in table.columns]
        parts.append(
            "\n".join(
                [f"## `{table.name}`", "", table.says, "", "| column | type | holds |", "|---|---|---|", *rows, ""]
            )
        )
    return "\n".join(parts)
