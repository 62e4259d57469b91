"""The tables of a record: their columns, what each holds, and how it is written as CSV. Plain: no pandas."""

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
    """One column: its name, kind, what it holds with the unit, and where that stands in a row."""

    name: str
    kind: Kind
    says: str
    of: Callable[[Row], Value]


@dataclass(frozen=True)
class Table(Generic[Row]):
    """One table: what a row is, the rows of a record, the columns of a row."""

    name: str
    says: str
    rows: Callable[[Record], Iterable[Row]]
    columns: tuple[Column[Row], ...]

    def values(self, record: Record) -> list[tuple[Value, ...]]:
        """Return the cells by row; None where something is not known or does not apply."""
        return [tuple(column.of(row) for column in self.columns) for row in self.rows(record)]

    def csv(self, record: Record) -> bytes:
        """Return the table as RFC 4180 has it, in UTF-8: a header, CRLF, quotes where they are needed.

        Numbers are plain and exact; what is missing is empty. A text that a spreadsheet would take for a formula has
        an apostrophe before it.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow([column.name for column in self.columns])
        writer.writerows([harmless(value) for value in row] for row in self.values(record))
        return text.getvalue().encode()


def harmless(value: Value) -> Value:
    """Put an apostrophe before a text that begins as a formula does, spaces, what is not seen and apostrophes apart."""
    if not isinstance(value, str):
        return value
    seen = "".join(c for c in value if unicodedata.category(c) not in ("Cc", "Cf")).lstrip()
    return f"'{value}" if value.startswith(FORMULA) or seen.lstrip("'").lstrip().startswith(FORMULA) else value


def text(cell: str) -> str:
    """Return the text that `harmless` wrote."""
    return cell[1:] if cell.startswith("'") and harmless(cell[1:]) == cell else cell


def settings(values: Parameters) -> str:
    """Write hyperparameters as JSON."""
    return json.dumps(values, ensure_ascii=False)


def bounded(
    mean: str, prefix: str, of: Callable[[Row], Interval | None], what: str
) -> tuple[Column[Row], Column[Row], Column[Row], Column[Row]]:
    """Return the columns of a mean, its standard error and its two-sided 95 % interval, under names with a prefix."""
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
        Column(f"{prefix}high", "number", "upper end", lambda row: None if (m := of(row)) is None else m.high),
    )
