"""Points, durations and sizes are written in one way, whatever they are."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from reports import wording
from teachers import units
from teachers.targets import teaching


@pytest.mark.parametrize(
    ("difference", "written"),
    [
        (0.0142, "+1.42"),
        (-0.613, "−61.30"),
        (0.0, "0.00"),
        (-0.00004, "0.00"),
        (0.00004, "0.00"),
        (0.00005001, "+0.01"),
        (-0.00006, "−0.01"),
        (1.0, "+100.00"),
        (math.inf, "+∞"),
        (-math.inf, "−∞"),
        (math.nan, "–"),
        (None, "–"),
    ],
)
def test_points_have_a_sign_unless_they_are_zero(difference: float | None, written: str) -> None:
    assert units.points(difference) == written


def test_points_may_have_fewer_digits_and_no_plus() -> None:
    assert [units.points(x, 1) for x in (0.00123, -0.0004, -0.0006)] == ["+0.1", "0.0", "−0.1"]
    assert [units.points(x, 1, sign=False) for x in (0.0123, 0.0, -0.0123)] == ["1.2", "0.0", "−1.2"]


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "0 B"),
        (-0.2, "0 B"),
        (1023, "1023 B"),
        (1023.6, "1.0 KiB"),
        (1024, "1.0 KiB"),
        (1023.94 * 2**20, "1023.9 MiB"),
        (1023.99 * 2**20, "1.0 GiB"),
        (1.25 * 2**30, "1.2 GiB"),
        (20_000_000_000, "18.6 GiB"),
        (3 * 2**50, "3072.0 TiB"),
        (-1536, "−1.5 KiB"),
        (math.inf, "–"),
    ],
)
def test_a_size_has_the_unit_that_suits_what_is_written(number: float, written: str) -> None:
    assert units.size(number) == written


def test_a_limit_is_written_without_decimals() -> None:
    assert [units.size(limit, 0) for limit in (2**20, 64 * 2**20, 6 * 2**30)] == ["1 MiB", "64 MiB", "6 GiB"]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (-0.4, "0 s"),
        (-3, "−3 s"),
        (59.4, "59 s"),
        (59.96, "1 min"),
        (60, "1 min"),
        (89, "1 min"),
        (90, "2 min"),
        (150, "3 min"),
        (3569, "59 min"),
        (3570, "1 h 00 min"),
        (3599.9, "1 h 00 min"),
        (3781, "1 h 03 min"),
        (360_000, "100 h 00 min"),
        (-90, "−2 min"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_a_duration_is_rounded_before_its_unit_is_chosen(seconds: float, written: str) -> None:
    assert units.duration(seconds) == written


def test_no_number_is_a_negative_zero() -> None:
    assert (wording.number(-0.0001), wording.percent(-0.00001)) == ("0.000", "0.00\u202f%")
    assert wording.number(-0.5) == "−0.500"
    assert wording.within(0.0, 0.1) == "[0.000, 0.196]"


def test_the_time_that_a_training_still_takes_is_a_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.0, 1000.0])
    monkeypatch.setattr(teaching, "time", SimpleNamespace(monotonic=lambda: next(times)))
    lines: list[str] = []
    tick = teaching._ticker(lines.append)
    tick(0, 100)
    tick(10, 100)
    assert lines == ["step 10 of 100, about 2 h 30 min left"]
