"""Every field of a record is found again, held to others, or listed as told by no record; and is as it is listed."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from record_changes import rewritten
from shipped import DEMO

from audit.analysis.derive import derived
from audit.finished.fields import FIELDS, page, told
from audit.finished.verify import follows, verify
from reports.record import PackedArray, Record, json_schema, load

pytestmark = pytest.mark.usefixtures("curves_once")

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json_schema()
PARTS: dict[str, Any] = {**SCHEMA["$defs"], "Record": SCHEMA}
Place = tuple[str | int, ...]


def leaves(part: str) -> set[str]:
    """Return the fields of a part that are no parts themselves; an array counts as one."""
    found = set()
    for name, said in PARTS[part]["properties"].items():
        inside = {ref.rpartition("/")[2] for ref in refs(said)} - {"PackedArray"}
        if not inside:
            found.add(name)
    return found


def refs(said: Any) -> Iterator[str]:
    if isinstance(said, dict):
        if "$ref" in said:
            yield said["$ref"]
        said = list(said.values())
    if isinstance(said, list):
        for one in said:
            yield from refs(one)


def test_every_field_is_classified_once() -> None:
    assert FIELDS.keys() == {part for part in PARTS if part != "PackedArray" and leaves(part)}
    for part, kinds in FIELDS.items():
        names = [name for fields in kinds.values() for name in fields.split()]
        assert len(names) == len(set(names)), part
        assert set(names) == leaves(part), part


def test_the_page_lists_what_no_record_tells() -> None:
    """Where this fails: python -c 'from audit.finished.fields import page; print(page())'."""
    assert page().strip() in (ROOT / "docs" / "verdict.md").read_text(encoding="utf-8")


@cache
def plain() -> dict[str, Any]:
    return load(DEMO).model_dump(mode="json")


def places(value: Any, part: str, at: Place = ()) -> Iterator[tuple[str, Place]]:
    """Return where the fields of a part lie, each with its part and name."""
    if isinstance(value, list):
        for i, one in enumerate(value):
            yield from places(one, part, (*at, i))
    elif isinstance(value, dict):
        for name, one in value.items():
            if name in leaves(part):
                yield f"{part}.{name}", (*at, name)
            else:
                inner = next(ref.rpartition("/")[2] for ref in refs(PARTS[part]["properties"][name]))
                yield from places(one, inner, (*at, name))


def other(value: Any) -> Any:
    """Return another value of the same type, so that a schema allows it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 + 0.1
    if isinstance(value, str):
        return f"{value}x" if len(value) != 64 else value[::-1]
    if isinstance(value, list):
        return [*value[:-1], other(value[-1])] if value else ["x"]
    if isinstance(value, dict) and value:
        first = next(iter(value))
        return {**value, first: other(value[first])}
    return "x"


SPELT = {  # fields that allow some words alone
    "Trial.kind": "control",
    "Trial.role": "null",
    "Trial.teacher": "ordinary",
    "Cell.splits": "validation",
    "Comparison.holds": "no data",
    "Comparison.needs": "gradients",
    "Comparison.status": "failed",
    "CMIPool.name": "validation",
    "Verdict.word": "UNDISTILLABLE",
    "Flag.caps": "inconclusive",
    "Cell.budget": 5,
    "Settings.budget": 5,
    "Cell.surrogate": "x",
    "Cell.teacher": "x",
    "Cell.surface": "x",
    "KnockoffResult.dropped_accuracy": 0.5,
    "ControlResult.dropped_accuracy": 0.5,
    "Settings.labels": 0.5,
    "Settings.shots": 0.5,
    "Trial.labels": 0.5,
    "Picture.overlay": "data:image/png;base64,AAAA",
    "Picture.png": "data:image/png;base64,AAAA",
    "Settings.price": 2.0,
    "Settings.size": 16,
    "Record.schema_version": 3,
}
WHOLE = {"Record.schema_version", "Record.journal"}  # told by load, and by the folder


def changed(place: Place, name: str) -> Record | None:
    """Return the record with another value at a place, None where that is no record."""
    record = json.loads(json.dumps(plain()))
    inner = record
    for step in place[:-1]:
        inner = inner[step]
    before = inner[place[-1]]
    inner[place[-1]] = (
        bits(before) if isinstance(before, dict) and "dtype" in before else SPELT.get(name, other(before))
    )
    if inner[place[-1]] == before:
        inner[place[-1]] = other(before)
    try:
        return Record.model_validate(record)
    except ValueError:
        return None


def bits(packed: dict[str, Any]) -> dict[str, Any]:
    array = PackedArray.model_validate(packed).array()
    array.flat[0] = not array.flat[0]
    return PackedArray.of(array).model_dump(mode="json")


def firsts() -> dict[str, Place]:
    """Return the first, and for the rows of attacks the only, place of every field of the shipped record."""
    found: dict[str, Place] = {}
    for name, place in places(plain(), "Record"):
        found.setdefault(name, place)
    return found


FIRST = firsts()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FIRST.keys() - WHOLE))
def test_a_changed_field_is_found_unless_it_is_listed(name: str) -> None:
    """What is recomputed is compared; of what is checked all else is made to follow, and it is found all the same."""
    part, _, field = name.partition(".")
    how, record = told(part)[field], changed(FIRST[name], name)
    if record is None:
        return  # refused
    if how == "recomputed":
        assert list(follows(record))
    elif how == "checked":
        with contextlib.suppress(Exception):  # nothing follows from it: verify says so
            record = derived(record)
        assert list(follows(record))
    elif how == "text":
        assert list(follows(derived(record))) == []


def test_a_changed_journal_is_found(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DEMO, tmp_path / "copy"))
    record = load(folder).model_copy(update={"journal": "0" * 64})
    assert [d.where for d in verify(rewritten(folder, record))] == ["journal.jsonl"]
