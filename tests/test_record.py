"""The record survives the disk, byte for byte, and says in one sentence why a file is not one."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sample_record import sample_record
from shipped import DEMO

from reports.record import UNSTATED, PackedArray, Record, RecordError, json_schema, load, save


def test_a_saved_record_loads_equal(tmp_path: Path) -> None:
    record = sample_record()
    save(record, tmp_path / "out" / "record.json")
    assert load(tmp_path / "out" / "record.json") == record
    assert load(tmp_path / "out") == record, "the folder stands for the file in it"


def test_a_record_is_the_same_bytes_twice_and_nothing_else_stays(tmp_path: Path) -> None:
    save(sample_record(), tmp_path / "a.json")
    save(load(tmp_path / "a.json"), tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_a_record_states_its_design_but_for_the_version_that_did_not(tmp_path: Path) -> None:
    """Records of earlier versions are written as they were: their files follow from them, byte for byte."""
    for design in (UNSTATED, UNSTATED + 1):
        save(sample_record().model_copy(update={"design": design}), tmp_path / "record.json")
        assert load(tmp_path).design == design
        assert json.loads((tmp_path / "record.json").read_text()).get("design", UNSTATED) == design
    assert json.loads((tmp_path / "record.json").read_text())["design"] == UNSTATED + 1
    assert "design" not in json.loads((DEMO / "record.json").read_text())


def test_numbers_that_are_not_finite_survive(tmp_path: Path) -> None:
    record = sample_record()
    first = record.comparisons[0]
    assert first.margin is not None
    margin = first.margin.model_copy(update={"df": math.inf, "p": math.nan})
    odd = record.model_copy(update={"comparisons": (first.model_copy(update={"margin": margin}),)})
    save(odd, tmp_path / "record.json")
    back = load(tmp_path).comparisons[0].margin
    assert back is not None
    assert math.isinf(back.df)
    assert math.isnan(back.p)


@given(st.lists(st.integers(0, 5), max_size=3), st.sampled_from(["bool", "float16", "uint16"]), st.integers(0, 99))
def test_a_packed_array_comes_back_with_its_shape_and_type(shape: list[int], kind: str, seed: int) -> None:
    array = np.asarray(np.random.default_rng(seed).integers(0, 2, shape)).astype(kind)
    back = PackedArray.model_validate_json(PackedArray.of(array).model_dump_json()).array()
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert (back == array).all()


def test_other_types_of_array_are_refused() -> None:
    with pytest.raises(ValidationError, match="dtype"):
        PackedArray.of(np.zeros(3))


def test_the_schema_accepts_a_record_and_refuses_a_changed_one(tmp_path: Path) -> None:
    save(sample_record(), tmp_path / "record.json")
    dumped = json.loads((tmp_path / "record.json").read_text())
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(dumped, json_schema())
    dumped["verdict"]["word"] = "SAFE"
    with pytest.raises(jsonschema.ValidationError, match="SAFE"):
        jsonschema.validate(dumped, json_schema())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read .*record.json.*give the folder that `audit run` wrote"),
        (b"\xff\xfe", "is not a record"),
        (b"<html>", "is not a record"),
        (b"[1, 2]", "is not a record"),
        (
            b'{"schema_version": 4}',
            "schema version 4, and this version of the tool reads 3; use the version",
        ),
        (b'{"schema_version": 2}', "schema version 2, and this version"),
        (b"{}", "schema version None"),
        (b'{"schema_version": 3}', r"is not a valid record: audit: .*problems"),
    ],
)
def test_what_is_no_record_is_refused_in_one_sentence(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(RecordError, match=said) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "part",
    [
        "probe",
        "distinct_answers",
        "journal",
        "teacher.usability",
        "teacher.test_correct",
        "task.test_labels",
        "trials.0.cell",
        "trials.0.cell.engine",
        "trials.0.validation_correct",
        "trials.0.test_agrees",
    ],
)
def test_what_every_audit_measures_is_in_every_record(tmp_path: Path, part: str) -> None:
    dumped = inner = json.loads(sample_record().model_dump_json())
    *outer, last = part.split(".")
    for name in outer:
        inner = inner[int(name)] if name.isdigit() else inner[name]
    del inner[last]
    (tmp_path / "record.json").write_text(json.dumps(dumped))
    with pytest.raises(RecordError, match=rf"is not a valid record: {part}: Field required"):
        load(tmp_path)


WHOLE = PackedArray.of(np.ones(20, bool))
SHORT = PackedArray.of(np.ones(7, bool))


@pytest.mark.parametrize(
    "changed",
    [
        {"data": "!"},
        {"data": "AAAA"},
        {"data": WHOLE.data[:8]},
        {"shape": (-20,)},
        {"shape": (30,)},
        {"shape": (10**30,)},
        {"dtype": "uint16"},
    ],
)
def test_a_damaged_array_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(RecordError, match="an array of the record is damaged"):
        WHOLE.model_copy(update=changed).array()


def test_students_that_are_missing_or_answer_other_images_are_refused() -> None:
    record = sample_record()
    trials = [trial for trial in record.trials if trial.test_correct is not None]
    cells = [trial.key for trial in trials]
    assert record.correct(cells).shape == (len(cells), record.task.test)
    with pytest.raises(RecordError, match="does not hold the answers of student ffff"):
        record.correct(["f" * 64])
    ragged = record.model_copy(update={"trials": (trials[0].model_copy(update={"test_correct": SHORT}), *trials[1:])})
    with pytest.raises(RecordError, match="do not answer its"):
        ragged.correct(cells)


def test_unknown_keys_are_refused() -> None:
    dumped = json.loads(sample_record().model_dump_json())
    with pytest.raises(ValidationError, match="extra"):
        Record.model_validate(dumped | {"surprise": 1})


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("reports.record", {"torch", "matplotlib", "jinja2", "scipy", "pandas"}),
        ("reports.junit", {"torch", "matplotlib", "jinja2", "scipy"}),
        ("reports.outputs", {"torch", "matplotlib.pyplot", "audit", "attacks"}),
    ],
)
def test_importing_a_report_loads_only_what_it_needs(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not heavy & loaded
    # of the room of teachers, nothing but what anyone may import (ANYONES in tests/test_house.py)
    light = {"teachers", "teachers.errors", "teachers.files", "teachers.names", "teachers.units"}
    assert {name for name in loaded if name.split(".")[0] == "teachers"} <= light


def test_a_path_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="is not a record"):
        load(tmp_path / "a\0b")


def test_a_folder_of_audits_is_answered_with_their_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        save(sample_record(), tmp_path / name / "record.json")
    sentence = f"No such file or directory\\); give the folder that `audit run` wrote, such as {tmp_path / 'a'} or "
    with pytest.raises(RecordError, match=sentence):
        load(tmp_path)


def test_an_unfinished_audit_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "audit.id").write_text("a" * 64)
    with pytest.raises(RecordError, match="is not finished; rerun the same command to resume"):
        load(tmp_path)
