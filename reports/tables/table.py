"""Tables of a record: their columns, and how they are written as CSV. Does not use pandas."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from reports.record import Interval, Parameters, Record

Row = TypeVar("Row")
Value = str | int | float | bool | None
Kind = Literal["text", "count", "number", "truth"]

DTYPES: Final[dict[Kind, str]] = {"text": "str", "count": "Int64", "number": "float64", "truth": "boolean"}
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # what a spreadsheet may act on


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column: its name, kind, description with the unit, and the function that reads it from a row."""

    name: str
    kind: Kind
    says: str
    of: Callable[[Row], Value]


@dataclass(frozen=True)
class Table(Generic[Row]):
    """One table: its description, the function that returns a record's rows, and its columns."""

    name: str
    says: str
    rows: Callable[[Record], Iterable[Row]]
    columns: tuple[Column[Row], ...]

    def values(self, record: Record) -> list[tuple[Value, ...]]:
        """Return the cells, row by row; None where a value is unknown or does not apply."""
        return [tuple(column.of(row) for column in self.columns) for row in self.rows(record)]

    def csv(self, record: Record) -> bytes:
        """Return the table as CSV (RFC 4180) in UTF-8: a header, CRLF, quotes where needed.

        Numbers are plain and exact; missing values are empty. A text that a spreadsheet would read as a formula gets an
        apostrophe in front.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow([column.name for column in self.columns])
        writer.writerows([harmless(value) for value in row] for row in self.values(record))
        return text.getvalue().encode()


def harmless(value: Value) -> Value:
    """Put an apostrophe before a text that starts a formula, after spaces, invisible characters or apostrophes."""
    if not isinstance(value, str):
        return value
    seen = "".join(c for c in value if unicodedata.category(c) not in ("Cc", "Cf")).lstrip()
    return f"'{value}" if value.startswith(FORMULA) or seen.lstrip("'").lstrip().startswith(FORMULA) else value


def text(cell: str) -> str:
    """Undo `harmless`: return the original text."""
    return cell[1:] if cell.startswith("'") and harmless(cell[1:]) == cell else cell


def settings(values: Parameters) -> str:
    """Write hyperparameters as JSON."""
    return json.dumps(values, ensure_ascii=False)


def bounded(
    mean: str, prefix: str, of: Callable[[Row], Interval | None], what: str
) -> tuple[Column[Row], Column[Row], Column[Row], Column[Row]]:
    """Return the columns of a mean, its standard error and its two-sided 95 % interval; `prefix` starts their names."""
    return (
        Column(mean, "number", what, lambda row: None if (m := of(row)) is None else m.mean),
        Column(
            f"{prefix}se", "number", f"standard error of `{mean}`", lambda r: None if (m := of(r)) is None else m.se
        ),
        Column(
            f"{prefix}low",
            "number",
            f"two-sided 95 % interval of `{mean}`: lower end",
            lambda row: None if (m := of(row)) is None else m.low,
        ),
        Column(
            f"{prefix}high",
            "number",
            f"two-sided 95 % interval of `{mean}`: upper end",
            lambda row: None if (m := of(row)) is None else m.high,
        ),
    )
