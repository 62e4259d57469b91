"""A policy file: what a team requires of an audit before it releases a model."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from reports import handed
from teachers.errors import UsageError
from teachers.places import place

Text = Annotated[str, Field(pattern=r"\S")]
Meaning = Literal["fail", "warn", "pass", "separate"]
MOST = handed.MIB  # at most, bytes of a policy file
MEANINGS = '"fail", "warn", "pass" or "separate" (an exit code of its own, 3)'
Place = tuple[str | int, ...]  # the keys and indices that lead to a value


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


@dataclass(frozen=True)
class PolicyFile:
    """A policy, and the file that it was read from."""

    path: Path
    text: str
    policy: Policy

    @property
    def baseline(self) -> Path | None:
        """Return the path of the baseline's record."""
        named = self.policy.baseline
        return None if named is None else self.path.parent / place(named.record)

    def wrong(self, place: Place, sentence: str) -> UsageError:
        """Return an error that names file, line and key."""
        return UsageError(_located(self.path, self.text, place, sentence))


def read(path: Path) -> PolicyFile:
    """Read a policy file.

    Raises UsageError, with file, line and key, for anything wrong in it.
    """
    try:
        text = handed.text(path, MOST)
    except OSError as e:
        raise UsageError(f"cannot read the policy {path} ({e.strerror}); give a TOML file with --policy") from e
    except handed.Unfit as e:
        raise UsageError(f"the policy {path} {e}; give a TOML file with --policy") from e
    try:
        return PolicyFile(path, text, Policy.model_validate(tomllib.loads(text)))
    except RecursionError as e:
        raise UsageError(f"{path} is nested too deeply; a policy has one level of tables (docs/gate.md)") from e
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{path} is no TOML: {e}; text stands in quotes, and a date is like 2027-01-31") from e
    except ValidationError as e:  # a ValueError, too
        first = min(e.errors(), key=lambda error: error["type"] != "extra_forbidden")  # a misspelt key is missing, too
        more = f" (and {e.error_count() - 1} more)" if e.error_count() > 1 else ""
        sentence = _sentence(first["type"], first["loc"], first["input"])
        raise UsageError(_located(path, text, first["loc"], sentence) + more) from e
    except ValueError as e:  # raised for a number with thousands of digits
        raise UsageError(f"{path} is no policy: a number in it has thousands of digits; see docs/gate.md") from e


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that is nearest, or list all known names."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}"


def _sentence(kind: str, place: Place, given: Any) -> str:
    """Describe what is wrong with a value, and what is allowed."""
    *table, key = place
    if kind == "extra_forbidden":
        return f"is not a key of this table; {nearest(str(key), _fields(table))}"
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


def _located(path: Path, text: str, place: Place, sentence: str) -> str:
    key = ".".join(part for part in place if isinstance(part, str))
    return f"{path}, line {line_of(text, place)}: {key} {sentence}"


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]#]+?)\s*\]")
_KEY = re.compile(r"\s*([\w.\-\"' ]+?)\s*=")


def line_of(text: str, place: Place) -> int:
    """Return the line of a value in TOML text; that of its table if the value is missing, else 1.

    The TOML reader keeps no line numbers, so this searches for them; a key in an inline value has that value's line.
    """
    lines: dict[Place, int] = {}
    table: Place = ()
    seen: dict[Place, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _keys(header[2])
            lines.setdefault(table, number)
            if header[1] == "[[":
                seen[table] = seen.get(table, -1) + 1
                table = (*table, seen[table])
                lines[table] = number
        elif key := _KEY.match(line):
            lines.setdefault((*table, *_keys(key[1])), number)
    return next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 1)


def _keys(dotted: str) -> Place:
    return tuple(part.strip(" \"'") for part in dotted.split("."))
