"""An audit as pandas data frames: `audit.load(DIR)`."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reports import tables
from reports.record import Record, load
from reports.tables.table import DTYPES, Table


@dataclass(frozen=True, repr=False)
class Frames:
    """The tables of one audit (see docs/tables.md); shares are fractions: 0.01 is one point."""

    record: Record
    summary: pd.DataFrame
    attacks: pd.DataFrame
    controls: pd.DataFrame
    students: pd.DataFrame
    pairs: pd.DataFrame
    curves: pd.DataFrame
    margins: pd.DataFrame
    cmi: pd.DataFrame
    classes: pd.DataFrame
    ledger: pd.DataFrame
    flags: pd.DataFrame
    surfaces: pd.DataFrame

    @classmethod
    def of(cls, record: Record) -> Frames:
        """Return every table of a record."""
        return cls(
            record=record,
            summary=frame(tables.SUMMARY, record),
            attacks=frame(tables.ATTACKS, record),
            controls=frame(tables.CONTROLS, record),
            students=frame(tables.STUDENTS, record),
            pairs=frame(tables.PAIRS, record),
            curves=frame(tables.CURVES, record),
            margins=frame(tables.MARGINS, record),
            cmi=frame(tables.CMI, record),
            classes=frame(tables.CLASSES, record),
            ledger=frame(tables.LEDGER, record),
            flags=frame(tables.FLAGS, record),
            surfaces=frame(tables.SURFACES, record),
        )

    def correct(self, keys: Iterable[str]) -> pd.DataFrame:
        """Return which test images students classify correctly, as booleans: one row per key, one column per image.

        Raises KeyError for a key that is not a student of this audit, or was not measured on test images (tuning).
        """
        wanted = list(keys)
        known = {trial.key for trial in self.record.trials if trial.test_correct is not None}
        for key in wanted:
            if key not in known:
                raise KeyError(_unmeasured(key, self.record))
        bits = self.record.correct(wanted) if wanted else None
        return pd.DataFrame(bits, index=pd.Index(wanted, name="key"), dtype="bool")

    def labels(self) -> pd.Series[int]:
        """Return the label of every test image."""
        return pd.Series(self.record.task.test_labels.array(), name="label", dtype="int64")

    def __repr__(self) -> str:
        verdict = self.record.verdict.word
        rows = f"{len(self.attacks)} attacks, {len(self.students)} students"
        return f"<audit of {self.record.teacher.name}: {verdict}, {rows}>"


def _unmeasured(key: str, record: Record) -> str:
    if any(trial.key == key for trial in record.trials):
        said = f"student {key!r} was tuned on validation images and never saw the test images"
        return f"{said}; take keys of `pairs`, or students.key[students.test_accuracy.notna()]"
    return f"this audit has no student {key!r}; take keys of `students` or `pairs`"


def frame(table: Table[Any], record: Record) -> pd.DataFrame:
    """Return one table of a record; the columns keep their types even without rows."""
    rows = table.values(record)
    cells = zip(*rows, strict=True) if rows else ([] for _ in table.columns)
    series = {
        column.name: pd.Series(list(values), dtype=DTYPES[column.kind])
        for column, values in zip(table.columns, cells, strict=True)
    }
    return pd.DataFrame(series)


def read(place: str | Path) -> Frames:
    """Return the tables of the audit in a folder, or of a record.json.

    Raises reports.record.RecordError where there is no readable record.
    """
    return Frames.of(load(Path(place)))


def parquet(table: Table[Any], record: Record) -> bytes:
    """Return one table as a Parquet file.

    Raises ImportError where pyarrow is not installed.
    """
    content = io.BytesIO()
    frame(table, record).to_parquet(content, engine="pyarrow", index=False)
    return content.getvalue()
