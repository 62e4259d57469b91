"""Several students share a card: as many as fit, fewer where memory runs out. Tried without a card."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from audits import request
from distributions import distribution

from audit import cli, context, pipeline
from audit.execution import cards
from audit.execution.cards import CONTEXT, Card, Share
from audit.execution.processes import Processes

GIB = 2**30


def test_as_many_students_share_a_card_as_fit() -> None:
    told: list[str] = []
    card = Card(free=20 * GIB, most=8, note=told.append)
    assert card.students == 1, "the first is trained alone"
    card.hold(2 * GIB)
    assert card.students == int(0.9 * 20 * GIB / (2 * GIB + CONTEXT)) == 6
    assert told == ["the card trains 6 students at once: one took 2.0 GiB of it"]
    card.hold(GIB)
    assert card.students == 6, "the largest counts"
    card.hold(30 * GIB)
    assert card.students == 1
    card = Card(free=20 * GIB, most=3, note=told.append)
    card.hold(GIB // 8)
    assert card.students == 3, "as many as --jobs"


def test_a_full_card_trains_half_as_many_from_then_on() -> None:
    told: list[str] = []
    card = Card(free=20 * GIB, most=8, note=told.append)
    card.hold(2 * GIB)
    assert card.full()
    assert (card.students, told[-1]) == (3, "the card is out of memory: 3 students at once from now on")
    card.hold(2 * GIB + 1)
    assert card.students == 3, "it does not grow again"
    assert card.full()
    assert card.students == 1
    assert not card.full(), "one alone that does not fit has failed"


def test_a_slots_part_of_a_card_is_told_to_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    share = Share()
    share.hold(GIB)
    assert (share.taken, share.students) == (GIB, 1)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: GIB // 2)
    share.hold(GIB)
    assert share.taken == GIB + GIB // 2 + CONTEXT, "a slot that measures there takes its part, too"
    assert not share.full(), "the slot does not try again"
    assert share.crowded


@pytest.mark.parametrize(
    ("error", "full", "gone"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True, False),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be…"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True, False),
        (RuntimeError("CUDA error: unspecified launch failure\nfor debugging…"), False, True),
        (RuntimeError("CUDA error: no CUDA-capable device is detected"), False, True),
        (RuntimeError("CUDA error: device-side assert triggered"), False, False),
        (ValueError("unknown error"), False, False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_card_says_is_understood(error: Exception, full: bool, gone: bool) -> None:
    assert cards.crowded(error) == full
    assert bool(cards.lost(error)) == gone


def test_a_card_that_stopped_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._mistake(RuntimeError("CUDA error: unspecified launch failure\nmore")) == 4
    assert capsys.readouterr().err == (
        "audit: the card has stopped (CUDA error: unspecified launch failure); finished students are kept: rerun the "
        "same command to resume\n"
    )


@pytest.fixture
def greedy(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install an attack that finds no memory as often as the returned file says."""
    monkeypatch.syspath_prepend(
        str(distribution(tmp_path_factory.mktemp("greedy"), "greedy_plugin", {"greedy": "Greedy"}))
    )
    monkeypatch.setenv("GREEDY", str(tmp_path / "left"))
    return tmp_path / "left"


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("times", [2, 3])
def test_students_that_found_no_memory_are_trained_again_beside_fewer(
    times: int, greedy: Path, cold: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    card = Card(free=20 * GIB, most=4, note=told.append, students=4)
    monkeypatch.setattr(context, "executor", lambda *_, **__: Processes(1, None, card))
    greedy.write_text(str(times))
    record = pipeline.run(request(cold("cold"), tmp_path / "out", attacks="soft-kd,greedy")).record
    row = next(row for row in record.comparisons if row.attack == "greedy")
    assert card.students == 1
    assert sum("out of memory" in line for line in told) == 2
    if times == 2:
        assert row.status == "judged"
    else:
        assert row.reason == (
            "the card has too little memory for one such student alone; use a smaller --student or a card with more"
        )
