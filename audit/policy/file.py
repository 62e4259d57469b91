"""A policy file: what a team requires of an audit before it releases a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from audit.plan.toml_files import Place, Purpose, TomlFile, opened
from teachers.names import nearest
from teachers.places import place

Text = Annotated[str, Field(pattern=r"\S")]
Meaning = Literal["fail", "warn", "pass", "separate"]
MEANINGS = '"fail", "warn", "pass" or "separate" (an exit code of its own, 3)'
PURPOSE = Purpose(
    option="--policy",
    noun="policy",
    values="put text in quotes, and write a date as 2027-01-31",
    levels="a policy has one level of tables (docs/gate.md)",
)


class Part(BaseModel):
    """Base of all tables: frozen, strict types, no unknown keys; a field's description says what is allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Suite(Part):
    """The suite that must have run."""

    name: Text = Field(description="the name of a suite in quotes, such as the one in a report's scope")
    complete: bool = Field(True, description="true or false")


class Waiver(Part):
    """An attack that the verdict ignores until a date."""

    attack: Text = Field(description="the name of one attack in quotes (`audit ls attacks`)")
    surface: Text | None = Field(None, description="the surface on which it is waived, in quotes; all if left out")
    reason: Text = Field(description="a sentence in quotes that says why")
    until: date = Field(description="the last day on which it holds, a date without quotes such as 2027-01-31")


class Baseline(Part):
    """An earlier record; if a policy names one, only a regression fails."""

    record: Annotated[Text, Field(pattern=r"^[^\x00]+$")] = Field(
        description="the path of a record or its folder in quotes, seen from the policy"
    )
    undecided: Meaning = Field("warn", description=MEANINGS)


class Policy(Part):
    """What an audit must fulfil, and which outcome each verdict has."""

    version: int = Field(ge=1, le=1, description="1")
    inconclusive: Meaning = Field("fail", description=MEANINGS)
    surfaces: tuple[Text, ...] = Field(
        (),
        strict=False,
        description="a list of surfaces in quotes, such as those that `audit run --surface` was given",
    )
    tolerance: float | None = Field(None, gt=0, le=100, description="a number of points above 0, such as 0.5")
    max_age_days: int | None = Field(None, ge=0, description="a whole number of days, 0 or more")
    checkpoint: str | None = Field(
        None, pattern=r"^[0-9a-fA-F]{64}$", description="64 hexadecimal digits in quotes: the sha256 of the teacher"
    )
    suite: Suite | None = Field(None, description="a table [suite]")
    waive: tuple[Waiver, ...] = Field((), strict=False, description="tables, each headed [[waive]]")
    baseline: Baseline | None = Field(None, description="a table [baseline]")

    @property
    def whole(self) -> bool:
        """Whether it asks about attacks whatever the word: of a baseline, or beside those that are waived."""
        return self.baseline is not None or bool(self.waive)


@dataclass(frozen=True)
class PolicyFile(TomlFile):
    """A policy, and the file that it was read from."""

    policy: Policy

    @property
    def baseline(self) -> Path | None:
        """Return the path of the baseline's record."""
        named = self.policy.baseline
        return None if named is None else self.path.parent / place(named.record)


def read(path: Path) -> PolicyFile:
    """Read a policy file.

    Raises UsageError, with file, line and key, for anything wrong in it.
    """
    return parsed(opened(path, PURPOSE))


def parsed(file: TomlFile) -> PolicyFile:
    """Parse the text of a policy file; raises as `read` does."""
    try:
        return PolicyFile(file.path, file.text, file.purpose, Policy.model_validate(file.content()))
    except ValidationError as e:
        first = min(e.errors(), key=lambda error: error["type"] != "extra_forbidden")  # a misspelt key is missing, too
        more = f" (and {e.error_count() - 1} more)" if e.error_count() > 1 else ""
        sentence = _sentence(first["type"], first["loc"], first["input"])
        raise file.wrong(first["loc"], sentence + more) from e


def _sentence(kind: str, place: Place, given: Any) -> str:
    """Describe what is wrong with a value, and what is allowed."""
    *table, key = place
    if kind == "extra_forbidden":
        return f"is not a key of this table; {nearest(str(key), list(_fields(table)))}"
    while isinstance(key, int):  # an item of a list is described as the list
        *table, key = table
    allowed = _fields(table)[key].description
    if kind == "missing":
        return f"is missing; give {allowed}"
    shown = str(given) if isinstance(given, date) else json.dumps(given, default=str, ensure_ascii=False)
    return f"is {shown if len(shown) <= 60 else shown[:59] + '…'}; it must be {allowed}"


def _fields(table: Sequence[str | int]) -> Mapping[str, FieldInfo]:
    tables: dict[str, type[Part]] = {"suite": Suite, "waive": Waiver, "baseline": Baseline}
    return (tables[str(table[0])] if table else Policy).model_fields
