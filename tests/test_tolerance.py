"""The tolerance that an audit states: part of its claim, never a way around the looks."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from audits import request
from sample_record import sample_record

from audit import pipeline
from audit.analysis.derive import derived
from audit.finished.verify import verify
from audit.plan.options import options_of
from audit.plan.question import of_audit
from audit.policy.file import Policy
from audit.policy.rules import _tolerance
from reports.record import dumped, load
from reports.settings import TOLERANCE, Settings
from teachers.errors import UsageError


@pytest.mark.parametrize("wrong", [0, -1, 5.1, float("nan"), float("inf"), "half", None])
def test_a_tolerance_is_a_number_of_points(wrong: object) -> None:
    with pytest.raises(UsageError, match="above 0 and at most 5, such as"):
        options_of({"teacher": "demo", "data": "digits", "delta": wrong})


def test_an_audit_of_the_usual_tolerance_has_the_name_and_the_bytes_that_it_had() -> None:
    assert of_audit("q", (5, 8)) == of_audit("q", (5, 8), TOLERANCE)
    assert of_audit("q", (5, 8)) != of_audit("q", (5, 8), 1.0)
    record = sample_record()
    assert "delta" not in json.loads(dumped(record))["settings"]
    wide = record.model_copy(update={"settings": replace(record.settings, delta=1.0)})
    assert json.loads(dumped(wide))["settings"]["delta"] == 1.0


def test_a_policy_accepts_a_wider_tolerance_only_if_it_states_it() -> None:
    record = sample_record()
    wide = record.model_copy(update={"verdict": record.verdict.model_copy(update={"delta": 0.02})})
    assert _tolerance(Policy(version=1), wide) == 0.005
    assert _tolerance(Policy(version=1, tolerance=1), wide) == 0.01
    assert _tolerance(Policy(version=1, tolerance=3), wide) == 0.02


@pytest.mark.usefixtures("tiny")
def test_a_stated_tolerance_is_in_the_record_and_a_changed_one_is_found(kept: Path, tmp_path: Path) -> None:
    folder = pipeline.run(request(kept, tmp_path / "out", delta=2.0)).folder
    record = load(folder)
    assert list(verify(folder)) == []
    assert (record.settings.delta, record.verdict.delta) == (2.0, 0.02)
    assert record.verdict.scope.endswith("; tolerance 2 points.")
    forged = record.model_copy(update={"settings": replace(record.settings, delta=4.0)})
    (folder / "record.json").write_bytes(dumped(forged))
    assert any("verdict.delta" in str(found) for found in verify(folder))
    (folder / "record.json").write_bytes(dumped(derived(forged)))
    assert list(verify(folder)) != []


def test_the_default_is_that_of_the_settings() -> None:
    assert Settings(teacher="demo").tolerance == TOLERANCE / 100 == 0.005
