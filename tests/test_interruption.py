"""Killed at any moment, the same command goes on and ends at the same record."""

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from audits import timeless
from command_line import command

from audit.execution import processes
from reports.record import load
from teachers.processes import trees
from teachers.targets import isolation

ROOT = Path(__file__).resolve().parent.parent
KILLS = 20  # of whole audits
BLOWS = 6  # at single processes
EACH = min(isolation.TRIES, processes.TRIES) - 1  # blows at one audit, which may all fall on one question or student
KILL, STOP = signal.SIGKILL, signal.SIGSTOP
AUDIT = ("--attacks", "soft-kd,knockoff")


def outcome(folder: Path) -> dict[str, object]:
    """Return what an audit came to, wherever it was kept."""
    return timeless(load(folder)) | {"command": ""}


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_twenty_kills_leave_the_same_record(tmp_path: Path) -> None:
    """Moments are drawn from the whole audit; where it finishes first, the next kills fall on a fresh one."""
    calm = tmp_path / "calm"
    calm.mkdir()
    assert subprocess.run(command(calm / "cache", calm / "out", *AUDIT)).returncode in (0, 1, 3)
    chance, kills = random.Random(0), 0
    for number in itertools.count():
        home, students = tmp_path / str(number), 0
        home.mkdir()
        while True:
            run = subprocess.Popen(command(home / "cache", home / "out", *AUDIT))
            if kills < KILLS:
                time.sleep(chance.uniform(1, 4))
                run.kill()
                kills += run.wait() == -signal.SIGKILL
            elif run.wait() in (0, 1, 3):
                break
            finished = len(list((home / "cache" / "cells").rglob("*.json")))
            assert finished >= students, "a finished student was lost"
            students = finished
            if run.returncode in (0, 1, 3):
                break
        assert outcome(home / "out") == outcome(calm / "out")
        if kills >= KILLS:
            print(f"{KILLS} kills fell on {number + 1} audits")
            return


def grandchildren(run: subprocess.Popen[bytes]) -> list[int]:
    """Return the keepers of an audit's teacher and workers, where they run."""
    own = {pid: trees.descendants(pid) for pid in trees.descendants(run.pid)}
    return sorted(pid for pid, below in own.items() if any(pid in other for other in own.values()) and below)


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_single_processes_that_are_killed_or_stopped_leave_the_same_record(tmp_path: Path) -> None:
    """Keepers, workers and the teacher's process are killed or stopped: the audit goes on by itself."""
    calm = tmp_path / "calm"
    calm.mkdir()
    options = (*AUDIT, "--isolate", "--cell-timeout", "10")
    assert subprocess.run(command(calm / "cache", calm / "out", *options)).returncode in (0, 1, 3)
    chance, blows = random.Random(1), 0
    for number in itertools.count():
        home = tmp_path / str(number)
        shutil.copytree(calm / "cache/teachers", home / "cache/teachers")
        run = subprocess.Popen(command(home / "cache", home / "out", *options))
        try:
            time.sleep(chance.uniform(2, 6))
            own = 0
            while run.poll() is None:
                time.sleep(chance.uniform(0.5, 4))
                keepers = grandchildren(run)
                if own >= EACH or len(keepers) < 2:
                    continue
                victim = chance.choice(keepers)
                stops = chance.random() < 0.3
                inner = trees.descendants(victim)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(
                        chance.choice([victim, *inner[:1]]) if not stops else (inner or [victim])[0],
                        STOP if stops else KILL,
                    )
                    blows, own = blows + 1, own + 1
        finally:
            run.kill()
            run.wait()
        assert run.returncode in (0, 1, 3)
        assert outcome(home / "out") == outcome(calm / "out")
        if blows >= BLOWS:
            print(f"{blows} blows fell on {number + 1} audits")
            return


@pytest.mark.slow
def test_two_audits_on_one_folder_wait_for_each_other(tmp_path: Path) -> None:
    first, second = (
        subprocess.Popen(command(tmp_path / "cache", tmp_path / "out", *AUDIT), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    told = [run.communicate()[1] for run in (first, second)]
    assert first.returncode == second.returncode
    assert sum("waiting for it" in t for t in told) == 1
    assert sum("nothing to train" in t for t in told) == 1
