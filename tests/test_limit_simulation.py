"""Simulated panels of `audit limit`: budgets that gain the tolerance are seldom called safe."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from audit.limits import search
from audit.statistics.sequential import Looks
from audit.statistics.verdict import Finding, rule
from teachers.proportions import wilson

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
PANELS = 200


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return benchmarks/limit.py."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("limit")


def too_high(row: dict[str, dict[str, int]]) -> tuple[int, int]:
    """Return how many of how many panels have a limit that is too high."""
    return sum(n for by, n in row["off"].items() if int(by) > 0), sum(row["off"].values())


def test_a_budget_that_gains_is_seldom_called_safe_as_looks_share_the_error(limit: ModuleType) -> None:
    case = limit.Case(limit.WORST, "medium", 6, 1, "10 seeds")
    assert case.alpha * search.looks(6) == pytest.approx(0.05)
    shared, whole = (limit.simulate(replace(case, corrected=c), PANELS) for c in (True, False))
    assert wilson(*too_high(shared))[0] <= 0.05
    assert wilson(*too_high(whole))[0] > 0.05, "four looks with 5 % each"


@pytest.mark.parametrize("truth", ["truthful: rises from 0 to 10 points", "truthful for many queries, to 2 points"])
def test_the_limit_of_a_truthful_teacher_is_seldom_too_high_and_not_always_too_low(
    limit: ModuleType, truth: str
) -> None:
    case = limit.Case(truth, "small", 6, 1, limit.LOOKS)
    assert case.limit == 1
    row = limit.simulate(case, PANELS // 5)
    assert wilson(*too_high(row))[0] <= 0.05
    assert row["off"]["0"] > 5


def test_no_limit_is_found_where_all_lose_a_point(limit: ModuleType) -> None:
    case = limit.Case("all lose a point", "small", 6, 1, "10 seeds")
    assert case.limit == 5
    assert limit.simulate(case, 20)["off"] == {"0": 20}


def test_simulated_words_are_those_of_the_rule(limit: ModuleType) -> None:
    judging, sequential = importlib.import_module("judging"), importlib.import_module("sequential")
    rng, noise, words = np.random.default_rng(0), limit.NOISES["small"], set()
    for gain in (-0.01, 0.0, 0.005, 0.01) * 5:
        drawn = sequential.margins(noise, (gain, -0.01), rng)
        found = [Looks((sequential.margin(rows, noise, rng),)) for rows in drawn]
        findings = [
            Finding(attack=str(i), status="judged", looks=looks, passes=True, listed=True)
            for i, looks in enumerate(found)
        ]
        words.add(judging.word(found, 0.0125))
        assert rule(findings, (), complete=True, alpha=0.0125).word == judging.word(found, 0.0125)
    assert len(words) == 3


def test_the_simulated_panels_hold_what_the_search_promises(limit: ModuleType) -> None:
    """Where this fails: python benchmarks/limit.py."""
    rows = json.loads(limit.FILE.read_text(encoding="utf-8"))
    docs = limit.FILE.parent.parent / "docs" / "limit.md"
    assert limit.page(rows) in docs.read_text(encoding="utf-8")
    for row in rows:
        false, panels = too_high(row)
        assert panels >= 1_000
        assert (wilson(false, panels)[0] <= 0.05) == row["corrected"], row
