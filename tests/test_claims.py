"""What the tool must find on the embedded task, with the recipe of the standard suite and some of its attacks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from audits import request
from record_changes import found_in

from audit.finished.verify import verify
from audit.pipeline import run
from audit.plan import suite

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

STANDARD: dict[str, Any] = {"data": None, "effort": "standard", "jobs": 2}
FEW = {"settings": 2, "seeds": 4, "bite_seeds": 4, "query_seeds": 2}
PILLARS = ("soft-kd", "dkd", "label-kd", "knockoff")


@pytest.fixture(autouse=True)
def _pillars(monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(suite.STANDARD, name="pillars", attacks=PILLARS, controls=(), **FEW)
    monkeypatch.setitem(suite.EFFORTS, "standard", small)


def test_an_ordinary_teacher_is_distillable_and_smoothed_truth_is_not(tmp_path: Path) -> None:
    done = run(request(tmp_path / "cache", tmp_path / "demo", "demo", **STANDARD))
    record = done.record
    assert list(verify(done.folder)) == []
    assert record.verdict.word == "DISTILLABLE"
    assert all(found.margin.lower > 0 for found in found_in(record, "dkd").margins if found.over != "home-made")
    assert "; a teacher trained at home gives as much: " in record.verdict.sentence
    margins = {c.attack: c.margin.mean for c in record.comparisons if c.margin is not None}
    assert max(margins.values()) >= 0.02
    assert {c.attack for c in record.comparisons if c.passes} == set(PILLARS)
    assert not [f for f in record.flags if f.caps != "nothing"]

    record = run(request(tmp_path / "cache", tmp_path / "smoothed-truth", "smoothed-truth", **STANDARD)).record
    assert record.verdict.word == "UNDISTILLABLE"
    assert record.times.reused > 0, "the positive control is that of the first audit"
    label_kd = next(c for c in record.comparisons if c.attack == "label-kd")
    assert label_kd.status == "identical"
