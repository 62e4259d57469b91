"""`audit limit` of real teachers: an honest one, and those that answer truthfully for so many queries only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from audits import TINY, smoke, with_attack
from fake_server import FakeServer
from torch import Tensor

import audit
from attacks.surrogate.knockoff import Knockoff
from reports.limit.document import Limit, Panel
from teachers.data.datasets import load as load_task

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class Few(Knockoff):
    """Knockoff Nets with few queries."""

    name = "few"
    queries: int = 800
    longer: float = 1.0


SUITE = replace(
    TINY,
    name="tiny-limit",
    attacks=("few", "knockoff"),
    tuning_seeds=2,
    seeds=6,
    bite_seeds=6,
    query_seeds=6,
    budgets=1,
    steps=60,
)


@dataclass
class Rationed:
    """Answer so many questions truthfully and all others uniformly, but those about the task's own images always."""

    truth: Callable[[Tensor], Tensor]
    own: set[bytes]
    turn: int
    asked: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        foreign = torch.tensor([image.float().numpy().tobytes() not in self.own for image in x])
        number = self.asked + foreign.cumsum(0)
        self.asked = int(number[-1])
        return torch.where((~foreign | (number <= self.turn))[:, None], self.truth(x), 0.0)


@pytest.fixture
def searched(
    server: FakeServer, cold: Callable[[str], Path], tmp_path: Path, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], Panel]:
    """Return what searches the limit of a teacher that turns after so many questions, and verifies what it wrote."""
    task, cache, out = load_task("digits", taught), cold("cold"), tmp_path / "out"
    images = [image for split in (task.train, task.validation, task.test) for image in split.images]
    own = {torch.from_numpy(image).float().div(255).numpy().tobytes() for image in images}
    with_attack(monkeypatch, Few)

    def limit() -> Limit:
        return audit.limit(
            server.url,
            data="digits",
            effort="smoke",
            budgets="100,400",
            hold="surrogate",
            attacks="few",
            delta=4.5,
            cache=cache,
            out=out,
            jobs=1,
            quiet=True,
        )

    def found(turn: int) -> Panel:
        server.answer = Rationed(server.answer, own, turn)
        with smoke(SUITE):
            once, asked = limit(), server.images
            assert audit.verify(out) == ()
            kept = sorted(cache.rglob("*"))
            assert limit().panels == once.panels, "the same command goes on"
            assert server.images == asked, "and has nothing left to ask"
            assert sorted(cache.rglob("*")) == kept, "or to train"
        (panel,) = once.panels
        told = [cell.outcome for cell in panel.cells if cell.outcome in ("safe", "gains")]
        assert told == sorted(told, reverse=True), "no budget is safe where an attack gains with less"
        return panel

    return found


def test_an_honest_teacher_has_a_limit(searched: Callable[[int], Panel]) -> None:
    panel = searched(10**9)
    assert [cell.budget for cell in panel.cells] == [100, 400, None]
    assert panel.cells[-1].outcome == "gains"
    assert panel.cells[-1].gain is not None
    assert panel.cells[-1].gain.lower > 0


def test_a_teacher_that_soon_answers_uniformly_gives_nothing_away(searched: Callable[[int], Panel]) -> None:
    panel = searched(20)
    assert panel.gains is None


def test_a_teacher_that_turns_while_the_auditor_asks_is_not_called_safe(searched: Callable[[int], Panel]) -> None:
    """Its first students learn from the truth and its last ones from nothing."""
    panel = searched(2_000)
    assert panel.cells[-1].outcome != "safe"
