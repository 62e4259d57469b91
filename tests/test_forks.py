"""The server that our processes are forks of: how it starts, and what it leaves to them."""

import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from teachers.errors import RefusedInput
from teachers.processes import forks

OPENBLAS = os.environ.get("OPENBLAS_NUM_THREADS")
INTERRUPTED = """
import os, pathlib, signal, time
from multiprocessing import forkserver
from teachers.processes import forks
forks._IMPORTED = ()
forks.prepare("slow")
while not pathlib.Path("begun").exists():
    time.sleep(0.01)
os.kill(forkserver._forkserver._forkserver_pid, signal.SIGINT)
assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""


def test_without_a_temporary_folder_a_sentence_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(forks.util, "get_temp_dir", missing)
    with pytest.raises(RefusedInput, match="set TMPDIR to a folder that can be written"):
        forks.prepare()


def test_an_interrupt_while_the_server_imports_prints_nothing(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(0.5)\n")
    paths = [str(tmp_path), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    script = (sys.executable, "-c", INTERRUPTED)
    done = subprocess.run(script, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=500)
    assert (done.returncode, done.stderr) == (0, "")


def blocked(pipe: Connection) -> None:
    pipe.send(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_a_fork_may_be_interrupted() -> None:
    here, there = forks.CONTEXT.Pipe(duplex=False)
    process = forks.start(blocked, there)
    assert here.recv() is False
    process.join()


def threads_of_blas(pipe: Connection) -> None:
    import scipy.linalg

    assert scipy.linalg
    pipe.send({pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})


def test_a_fork_uses_one_thread_for_small_arrays() -> None:
    here, there = forks.CONTEXT.Pipe(duplex=False)
    process = forks.start(threads_of_blas, there)
    assert here.recv() == {1}
    process.join()
    assert os.environ.get("OPENBLAS_NUM_THREADS") == OPENBLAS


SHADOWS = ("random", "signal", "threading", "torch", "warnings", "selectors", "struct")


def test_nothing_of_the_working_directory_is_imported(tmp_path: Path) -> None:
    """It may be a stranger's, such as a repository with a checkpoint to audit."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text(
            f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\nexit(9)\n"
        )
    code = (
        f"import os, sys; from teachers.processes import forks; os.chdir({str(tmp_path)!r}); forks.start(print).join()"
    )
    paths = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, env=environment, timeout=500)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "ran").exists()
