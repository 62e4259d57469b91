"""A stranger's code changes no student but its own, takes no more than it may, and ends with all that it started."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from audits import request, timeless, with_attack
from command_line import command
from distributions import distribution

from audit import pipeline
from audit.cache.store import Cache
from audit.execution import processes
from audit.finished.verify import verify
from reports.record import Comparison, Record, load
from teachers.errors import UsageError
from teachers.processes import trees

pytestmark = pytest.mark.usefixtures("tiny", "figures_once")


@pytest.fixture
def markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the plug-ins be installed; return where they leave files."""
    folder = tmp_path / "markers"
    folder.mkdir()
    source = (Path(__file__).parent / "patching_plugin.py").read_text()
    names = {name: cls for cls, name in re.findall(r'class (\w+)\(Restless\):.*?name = "(\w+)"', source, re.DOTALL)}
    monkeypatch.syspath_prepend(str(distribution(tmp_path / "site", "patching_plugin", names)))
    monkeypatch.setenv("HOSTILE_MARKERS", str(folder))
    return folder


def row(record: Record, attack: str) -> Comparison:
    return next(c for c in record.comparisons if c.attack == attack)


def students(cache: Path) -> dict[str, object]:
    """Return what a cache holds of students, but for seconds, by key."""
    found = {}
    for path in (cache / "cells").rglob("*.json"):
        held = json.loads(path.read_text().partition("\n")[2])  # the first line is its seal
        found[path.stem] = {k: v for k, v in held.items() if k not in ("seconds", "step_seconds")}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_plugin_that_patches_torch_changes_no_student_but_its_own(
    cold: Callable[[str], Path], tmp_path: Path, markers: Path, jobs: int
) -> None:
    alone, beside = cold("alone"), cold("beside")
    pipeline.run(request(alone, tmp_path / "a", attacks="soft-kd,label-kd", jobs=jobs))
    asked = request(beside, tmp_path / "b", attacks="patcher,soft-kd,label-kd", jobs=jobs, isolate=False)
    record = pipeline.run(asked).record
    ours, all_ = students(alone), students(beside)
    assert row(record, "patcher").status == "judged", row(record, "patcher").reason
    assert len(ours) > 8
    assert {key: all_[key] for key in ours} == ours, "bit by bit"
    others = [held["cell"] for key, held in all_.items() if key not in ours]  # type: ignore[index]
    assert {cell["technique"] for cell in others} == {"patcher"}
    assert list(verify(tmp_path / "b")) == []


def test_a_network_of_a_plugin_is_never_built_where_labels_are(kept: Path, tmp_path: Path, markers: Path) -> None:
    record = pipeline.run(request(kept, tmp_path / "out", attacks="soft-kd,wrapper", jobs=2)).record
    assert row(record, "wrapper").status == "judged"
    assert not list(markers.iterdir())
    assert "patching_plugin" not in sys.modules
    matched = [
        t for t in record.trials if t.cell.technique == "ls" and t.regime.recipe["wrap"] == "patching_plugin:Seer"
    ]
    assert matched
    assert not any(Cache(kept).result(t.cell) for t in matched), "its key has no plug-in in it"


PATIENT = 300.0  # seconds: on a busy machine, an attack that ends by itself is not ended for its time


@pytest.mark.parametrize(
    ("attack", "seconds", "sentence"),
    [
        pytest.param(
            "sleeper", 3.0, "sent no message for 3 s and was ended; raise --cell-timeout", marks=pytest.mark.slow
        ),
        pytest.param("asker", 3.0, "did not finish in 6 s and was ended; raise --cell-timeout", marks=pytest.mark.slow),
        pytest.param("stopper", 3.0, "sent no message for 3 s", marks=pytest.mark.slow),
        ("swallower", PATIENT, "it needed more memory than the"),
        ("usurper", PATIENT, "nothing is wrong with the teacher"),
        ("longer", PATIENT, "took 100,000,000 steps, more than 100 times its control's"),
        ("larger", PATIENT, "keep the architecture of lab.recipe"),
    ],
)
def test_an_attack_that_takes_what_is_not_its_own_fails_and_the_audit_goes_on(
    finished: Path,
    tmp_path: Path,
    markers: Path,
    attack: str,
    seconds: float,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The students of soft-kd are in the cache: however busy the machine, they do not take too long themselves."""
    shutil.copytree(finished.parent / "cache", tmp_path / "cache")
    monkeypatch.setattr(processes, "LONGEST", 2)
    monkeypatch.setattr(processes.limits, "spare", lambda: 2 * 2**30)
    asked = request(tmp_path / "cache", tmp_path / "out", attacks=f"soft-kd,{attack}", cell_timeout=seconds)
    record = pipeline.run(asked).record
    assert sentence in row(record, attack).reason
    assert row(record, attack).status == "failed"
    assert row(record, "soft-kd").status == "judged"


def alive(pid: int) -> bool:
    try:
        return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_what_a_worker_starts_ends_with_it(kept: Path, tmp_path: Path, markers: Path) -> None:
    record = pipeline.run(request(kept, tmp_path / "out", attacks="soft-kd,parent")).record
    assert row(record, "parent").status == "judged"
    left = [int(path.name.partition("-")[2]) for path in markers.glob("pid-*")]
    assert len(left) >= 3
    assert not [pid for pid in left if alive(pid)]


def environment(markers: Path) -> dict[str, str]:
    paths = [str(markers.parent / "site"), *filter(None, sys.path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.slow
def test_what_a_plugin_prints_reaches_neither_terminal_nor_json(
    cold: Callable[[str], Path], tmp_path: Path, markers: Path
) -> None:
    asked = [*command(cold("cache"), tmp_path / "out"), "--attacks", "printer", "--json", "--seeds", "2"]
    done = subprocess.run(asked, capture_output=True, env=environment(markers), timeout=500)
    assert done.returncode in (0, 1, 3), done.stderr.decode()
    assert json.loads(done.stdout)
    assert json.loads((tmp_path / "out" / "record.json").read_text())["comparisons"][0]["status"] == "judged"
    assert b"a plug-in" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sign", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_an_audit_that_is_ended_leaves_nothing_running(
    cold: Callable[[str], Path], tmp_path: Path, markers: Path, sign: str
) -> None:
    asked = [*command(cold("cache"), tmp_path / "out"), "--attacks", "parent", "--isolate"]
    run = subprocess.Popen(asked, env=environment(markers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 240
    while len(list(markers.glob("pid-*"))) < 3 and time.monotonic() < until and run.poll() is None:
        time.sleep(0.1)
    started = trees.descendants(run.pid)
    assert len(started) >= 7, "workers with their keepers, the teacher, and what the plug-in started"
    run.send_signal(getattr(signal, sign))
    run.wait(60)
    until = time.monotonic() + 60
    while (left := [pid for pid in started if alive(pid)]) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left


def test_a_worker_that_is_killed_or_stopped_changes_nothing_of_the_record(
    finished: Path, cold: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, keepers, struck = threading.Event(), [], []
    start = trees.start

    def started(*args: object, **more: object) -> object:
        keepers.append(start(*args, **more))  # type: ignore[arg-type]
        return keepers[-1]

    def strike() -> None:
        for sign in (signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL):
            while not done.wait(0.02):
                if workers := [pid for keeper in keepers for pid in trees.descendants(keeper.pid)]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(workers[-1], sign)
                        struck.append(sign)
                    done.wait(1.5)
                    break

    monkeypatch.setattr(trees, "start", started)
    thread = threading.Thread(target=strike)
    thread.start()
    try:
        record = pipeline.run(request(cold("cache"), tmp_path / "out", jobs=2, cell_timeout=6.0)).record
    finally:
        done.set()
        thread.join()
    assert struck
    assert 2 < len(keepers) <= 2 + len(struck), "the others go on, or it was stopped when it was killed"
    assert timeless(record) == timeless(load(finished))


def test_a_cell_timeout_out_of_bounds_is_refused(kept: Path, tmp_path: Path) -> None:
    for seconds in (0.0, -5.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=r"--cell-timeout .*: give seconds from 1 to 10,000,000"):
            pipeline.run(request(kept, tmp_path / "out", cell_timeout=seconds))


@pytest.mark.slow
def test_what_an_attack_of_ours_leaves_behind_reaches_no_other(
    cold: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from attacks.logits.soft_kd import SoftKD

    class Untidy(SoftKD):
        name = "untidy"

        def run(self, lab):  # type: ignore[no-untyped-def]
            student = super().run(lab)
            torch.set_default_dtype(torch.float64)
            torch.set_num_threads(2)
            torch.set_grad_enabled(False)
            torch.use_deterministic_algorithms(True, warn_only=True)
            return student

    alone, beside = cold("alone"), cold("beside")
    pipeline.run(request(alone, tmp_path / "a", attacks="label-kd"))
    with_attack(monkeypatch, Untidy)
    pipeline.run(request(beside, tmp_path / "b", attacks="untidy,label-kd"))
    ours, all_ = students(alone), students(beside)
    assert {key: all_[key] for key in ours} == ours
    assert torch.get_default_dtype() == torch.float32
