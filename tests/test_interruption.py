"""Killed at any moment, the same command goes on and ends at the same record."""

import itertools
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KILLS = 20


def command(cache: Path, out: Path, *more: str) -> list[str]:
    options = ["--data", "digits", "--effort", "smoke", "--jobs", "2", "--cache", str(cache), "--out", str(out)]
    entry = "from audit.cli import main\nif __name__ == '__main__':\n    main()\n"
    script = cache.parent / "entry.py"
    script.write_text(entry)
    return [sys.executable, str(script), "run", "--teacher", "demo", *options, *more]


def timeless(path: Path) -> object:
    record = json.loads(path.read_text())
    del record["times"], record["command"], record["journal"]  # a journal tells when each student was finished
    for trial in record["trials"]:
        del trial["seconds"], trial["step_seconds"]
    return record


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_twenty_kills_leave_the_same_record(tmp_path: Path) -> None:
    """Moments are drawn from the whole audit; where it finishes first, the next kills fall on a fresh one."""
    calm = tmp_path / "calm"
    calm.mkdir()
    assert subprocess.run(command(calm / "cache", calm / "out", "--seeds", "12")).returncode in (0, 1, 3)
    chance, kills = random.Random(0), 0
    for number in itertools.count():
        home, students = tmp_path / str(number), 0
        home.mkdir()
        while True:
            run = subprocess.Popen(command(home / "cache", home / "out", "--seeds", "12"))
            if kills < KILLS:
                time.sleep(chance.uniform(1, 12))
                run.kill()
                kills += run.wait() == -signal.SIGKILL
            elif run.wait() in (0, 1, 3):
                break
            finished = len(list((home / "cache" / "cells").rglob("*.json")))
            assert finished >= students, "a finished student was lost"
            students = finished
            if run.returncode in (0, 1, 3):
                break
        assert timeless(home / "out" / "record.json") == timeless(calm / "out" / "record.json")
        if kills >= KILLS:
            print(f"{KILLS} kills fell on {number + 1} audits")
            return


@pytest.mark.slow
def test_two_audits_on_one_folder_wait_for_each_other(tmp_path: Path) -> None:
    first, second = (
        subprocess.Popen(command(tmp_path / "cache", tmp_path / "out"), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    told = [run.communicate()[1] for run in (first, second)]
    assert first.returncode == second.returncode
    assert sum("waiting for it" in t for t in told) == 1
    assert sum("nothing to train" in t for t in told) == 1
