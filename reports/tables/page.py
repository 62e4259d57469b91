"""The page docs/tables.md: every table of a record, column by column."""

from __future__ import annotations

from reports.tables.every import EVERY
from reports.tables.table import DTYPES

_HEAD = """# Tables

What `audit.load(DIR)` gives as data frames, and what `audit report DIR --format csv,parquet` writes into `DIR/tables/`
([notebooks](notebooks.md)). Take columns by name: a later version may add some, it renames none. Shares, accuracies and
margins are fractions (0.01 is one point), CMI is in nats. What is missing is NaN in `str` and `float64`, `pd.NA` in
`Int64` and `boolean`.

A file is read back with its types, and with `keep_default_na=False`, because readers otherwise take words such as
`null` (a role of students), `NA` or `None` for missing values:

```python
pandas.read_csv("tables/students.csv", keep_default_na=False, na_values=[""], dtype={"name": "str", "role": "str"})
```

Give `"str"` for every column that is `str` below and may hold a name: a class may be called `1e5` or `true`. In R, that
is `na.strings = ""`. A text that a spreadsheet would take for a formula (`=`, `+`, `-`, `@` first) has an apostrophe
before it in CSV; `reports.tables.table.text` takes it off again. Parquet and the data frames hold every word as it is.
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
