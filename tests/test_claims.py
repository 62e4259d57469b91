"""What the tool must find on the embedded task, with the recipe of the standard suite and some of its attacks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from audits import request, smoke
from record_changes import found_in

from audit.finished.verify import verify
from audit.pipeline import run
from audit.plan.suite import STANDARD

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

ASKED: dict[str, Any] = {"data": None, "jobs": 2}
PILLARS = ("dist", "soft-kd", "label-kd", "knockoff")
FEW: dict[str, Any] = {"settings": 2, "seeds": 5, "bite_seeds": 4, "query_seeds": 2}
SUITE = replace(STANDARD, name="pillars", attacks=PILLARS, controls=(), stops=None, **FEW)


def test_an_ordinary_teacher_is_distillable_and_smoothed_truth_is_not(drawn: Path, tmp_path: Path) -> None:
    """On an ordinary teacher one look at the surest attack is enough; smoothed truth must withstand all of them.

    The ordinary teacher is the positive control of the second audit, on which every attack must succeed.
    """
    with smoke(replace(SUITE, name="surest", attacks=PILLARS[:1], most=None)):
        done = run(request(drawn, tmp_path / "demo", "demo", **ASKED))
        assert list(verify(done.folder)) == []
    record = done.record
    assert record.verdict.word == "DISTILLABLE"
    assert all(found.margin.lower > 0 for found in found_in(record, "dist").margins if found.over != "home-made")
    assert "; a teacher trained at home gives as much: " in record.verdict.sentence
    margin = found_in(record, "dist").margin
    assert margin is not None
    assert margin.mean >= 0.015, "+1.72 to +2.58 points on twenty such teachers (docs/performance.md)"
    assert not [f for f in record.flags if f.caps != "nothing"]

    with smoke(SUITE):
        record = run(request(drawn, tmp_path / "smoothed-truth", "smoothed-truth", **ASKED)).record
    assert record.verdict.word == "UNDISTILLABLE"
    assert {c.attack for c in record.comparisons if c.passes} == set(PILLARS)
    assert record.times.reused > 0, "the positive control is that of the first audit"
    label_kd = next(c for c in record.comparisons if c.attack == "label-kd")
    assert label_kd.status == "identical"
