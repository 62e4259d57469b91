"""What the tool must find on the embedded task, with the recipe of the standard suite and one attack of every kind."""

from dataclasses import replace
from pathlib import Path

import pytest

from audit.plan import suite
from audit.plan.request import Request
from audit.run import run
from teachers.targets.target import TeacherSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("claims")


PILLARS = ("soft-kd", "dkd", "lskd", "avg", "label-kd", "label-mixup", "knockoff", "noise")


@pytest.fixture(autouse=True)
def _pillars(monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(suite.STANDARD, name="pillars", attacks=PILLARS, controls=())
    monkeypatch.setitem(suite.EFFORTS, "standard", small)


def request(home: Path, teacher: str) -> Request:
    return Request(TeacherSpec(teacher), jobs=2, cache=home / "cache", out=home / teacher)


def test_an_ordinary_teacher_is_distillable_by_two_points_and_more(home: Path) -> None:
    record = run(request(home, "demo")).record
    assert record.verdict.word == "DISTILLABLE"
    margins = {c.attack: c.margin.mean for c in record.comparisons if c.margin is not None}
    assert max(margins.values()) >= 0.02
    bites = {c.attack for c in record.comparisons if c.bite is not None and c.bite.bites}
    assert set(PILLARS) - {"label-mixup", "noise"} <= bites
    assert not [f for f in record.flags if f.caps != "nothing"]


def test_smoothed_truth_is_undistillable(home: Path) -> None:
    record = run(request(home, "smoothed-truth")).record
    assert record.verdict.word == "UNDISTILLABLE"
    assert record.times.reused > 0, "the positive control is that of the first audit"
    label_kd = next(c for c in record.comparisons if c.attack == "label-kd")
    assert label_kd.status == "identical"
