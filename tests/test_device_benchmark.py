"""The benchmark of a card: what is measured stays, what is missing is told, and airbench's network is airbench's."""

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
HERE = {"machine": "a card", "torch": "torch 2"}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Let modules of benchmarks/ be imported."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def ledger(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("ledger")


@pytest.fixture
def airbench(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("airbench")


def test_what_is_measured_is_not_measured_again(ledger: ModuleType, tmp_path: Path) -> None:
    path, called = tmp_path / "found.json", list[str]()

    def row(name: str, value: float, over: str = "", done: bool = True) -> Any:
        def found(before: Any, allowed: float) -> Any:
            called.append(name)
            return ledger.Figure(f"{value:g} a minute", value, done, (before.seconds if before else 0) + 5)

        return ledger.Row(name, 1, found, over)

    def refused(before: Any, allowed: float) -> Any:
        raise ledger.NotMeasured("there is no card")

    rows = [row("loop", 2), row("ours", 7, "loop"), ledger.Row("recorded", 1, refused), row("audit", 3, done=False)]
    first = ledger.Ledger.open(path, HERE, "Monday")
    ledger.measure(rows[:1], first, 60)
    second = ledger.Ledger.open(path, HERE, "Tuesday")
    ledger.measure(rows, second, 60)
    assert called == ["loop", "ours", "audit"]
    ledger.measure(rows, third := ledger.Ledger.open(path, HERE, "Wednesday"), 60)
    assert called == ["loop", "ours", "audit", "audit"], "what is not finished goes on"
    assert third.figures["audit"].seconds == 10
    assert third.table(rows).splitlines() == [
        "a card, torch 2; Wednesday",
        "",
        "| what | measured | against |",
        "|---|---|---|",
        "| loop | 2 a minute |  |",
        "| ours | 7 a minute | 3.50 × loop (of two runs) |",
        "| recorded | not measured: there is no card |  |",
        "| audit | 3 a minute |  |",
    ]


def test_another_machine_is_not_mixed_in(ledger: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    ledger.Ledger.open(path, HERE, "Monday").keep(ledger.Row("loop", 1, lambda *_: None), ledger.Figure("2"))
    with pytest.raises(ValueError, match="measured with machine a card, this is another; give another --out"):
        ledger.Ledger.open(path, HERE | {"machine": "another"}, "Tuesday")


def test_every_row_has_its_share_and_what_others_leave(ledger: ModuleType, tmp_path: Path) -> None:
    now, allowed = [0.0], dict[str, float]()

    def row(name: str, share: float, takes: float) -> Any:
        def found(before: Any, seconds: float) -> Any:
            allowed[name] = seconds
            now[0] += takes
            if takes > seconds:
                raise ledger.NoTimeLeft
            return ledger.Figure("measured")

        return ledger.Row(name, share, found)

    rows = [row("quick", 1, 10), row("slow", 1, 1_000), row("late", 2, 10)]
    kept = ledger.Ledger(tmp_path / "found.json", HERE, "Monday")
    ledger.measure(rows, kept, 400, clock=lambda: now[0])
    assert allowed == {"quick": 100, "slow": 130}, "the third of 390 s that is its own"
    assert kept.why == {"slow": "no time left", "late": "no time left"}
    ledger.measure(rows, kept, 2_000, clock=lambda: now[0])
    assert allowed["late"] == 1_000, "all that is left"
    assert kept.done(rows[2])
    first = replace(row("first", 1, 10), needed=True)
    other = ledger.Ledger(tmp_path / "other.json", HERE, "Monday")
    ledger.measure([first, row("second", 99, 10)], other, 100, clock=lambda: now[0])
    assert allowed["first"] == 100, "others need it"


def test_a_measurement_ends_when_its_time_is_over(ledger: ModuleType) -> None:
    with pytest.raises(ledger.NoTimeLeft), ledger.limit(0.01):
        time.sleep(60)


def test_one_that_fails_costs_no_other(ledger: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(before: Any, allowed: float) -> Any:
        raise RuntimeError("CUDA error: misaligned address\nmore")

    rows = [ledger.Row("broken", 1, broken), ledger.Row("sound", 1, lambda *_: ledger.Figure("measured"))]
    kept = ledger.Ledger(tmp_path / "found.json", HERE, "Monday")
    ledger.measure(rows, kept, 60)
    assert "| broken | not measured: it failed (RuntimeError: CUDA error: misaligned address) |" in kept.table(rows)
    assert kept.done(rows[1])
    assert "misaligned" in capsys.readouterr().err


def test_the_network_is_that_of_airbench(airbench: ModuleType) -> None:
    network = airbench.AirNet(10, 3)
    assert sum(p.numel() for p in network.parameters()) == 1_972_792
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 1_972_792 - 2 * 4 * 3 * 12 - 2 * 576
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    x = torch.randn(400, 3, 8, 8, generator=torch.Generator().manual_seed(0)).cumsum(3)
    network.whiten(x)
    answers = torch.nn.functional.conv2d(x, network.whitening.weight).transpose(0, 1).flatten(1)  # (24, N)
    assert torch.allclose(answers @ answers.T / answers.shape[1], WHITE, atol=2e-2)


WHITE = torch.kron(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), torch.eye(12))


def test_images_are_flipped_in_every_other_epoch(airbench: ModuleType) -> None:
    images = torch.arange(6.0).expand(1, 1, 6, 6)
    seen = airbench.epochs(images, torch.tensor([7]), 1)
    rising = [bool(x[0, 0, 0, 3] > x[0, 0, 0, 2]) for _, (_, x, _) in zip(range(4), seen, strict=False)]
    assert rising[0] == rising[2] != rising[1] == rising[3]


def test_weights_are_mixed_with_their_averages(airbench: ModuleType) -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    ahead = airbench.Lookahead(network)
    before = network.weight.item()
    with torch.no_grad():
        network.weight += 1
    ahead.update(network, 0.75)
    assert network.weight.item() == pytest.approx(before + 0.25)


def run(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "device.py"), "--out", str(out), *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_a_small_run_fills_the_table_and_the_next_measures_nothing(
    load: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    device, out = load("device"), tmp_path / "smoke.json"
    if not torch.cuda.is_available():
        refused = run(out, "--smoke")
        assert refused.returncode == 2
        assert "torch finds no GPU on this machine" in refused.stderr
    first = run(out, "--smoke", "--device", "cpu", "--minutes", "30")  # it ends when all is measured
    assert first.returncode == 0, first.stderr
    names = [row.name for row in device.Bench(device.SMOKE, "glyphs", "cpu", tmp_path).rows()]
    table = (tmp_path / "smoke.md").read_text()
    assert [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[4:]] == names
    missing = [line for line in table.splitlines() if "not measured" in line]
    assert missing == [
        f"| steps: {kind}, recorded | not measured: only a card records steps |  |" for kind in ("float32", "bfloat16")
    ]
    held = out.read_text()
    assert json.loads(held)["figures"]["audit"]["done"]
    second = run(out, "--smoke", "--device", "cpu")
    assert second.returncode == 0, second.stderr
    assert out.read_text() == held
    assert table.splitlines()[4:] == (tmp_path / "smoke.md").read_text().splitlines()[4:]
