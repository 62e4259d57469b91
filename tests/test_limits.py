"""The machine's own limits: the smaller one is kept to, and named where it is what stops us."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from teachers.processes import limits

ROOT = Path(__file__).resolve().parent.parent
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
READ = "import sys\nfrom audit.cli import main\nif __name__ == '__main__':\n    main()\n"
pytestmark = pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs a process without privileges")


def under(limit: str, *code: str) -> subprocess.CompletedProcess[str]:
    """Run Python under a limit that cannot be raised."""
    command = ["bash", "-c", f'ulimit {limit}; exec "$@"', "-", *UNPRIVILEGED, sys.executable, *code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=500)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("limited")
    (folder / "audit.py").write_text("")
    entry = folder / "entry.py"
    entry.write_text(f"import sys\nsys.path[0] = {str(ROOT)!r}\n{READ}")
    torch.save({"0.weight": torch.zeros(10, 64), "0.bias": torch.zeros(10)}, folder / "small.pt")
    torch.save({"a": torch.zeros(3_000_000)}, folder / "large.pt")
    return str(entry), str(folder)


@pytest.mark.slow
def test_a_sound_file_is_read_under_the_limits_of_a_login_node(script: tuple[str, str]) -> None:
    """Under all of them at once, and therefore under each."""
    login = "-v 6000000 -t 50 -f 200000 -c 0 -d 5000000 -n 60 -s 1024"
    done = under(login, script[0], "inspect", f"{script[1]}/small.pt")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("limit", "file", "flag"),
    [
        pytest.param("-f 20", "large.pt", "ulimit -f", marks=pytest.mark.slow),
        pytest.param("-v 3300000", "small.pt", "ulimit -v", marks=pytest.mark.slow),
        ("-v 2500000", "small.pt", "ulimit -v"),
    ],
)
def test_a_limit_that_stops_the_reading_is_named(script: tuple[str, str], limit: str, file: str, flag: str) -> None:
    done = under(limit, script[0], "inspect", f"{script[1]}/{file}")
    assert done.returncode == 4
    assert flag in done.stderr
    assert "raise" in done.stderr
    assert "Traceback" not in done.stderr


LOWER = """
import resource
from teachers.processes import limits
said = limits.lower("RLIMIT_CPU", {wanted}, grace=2), limits.lower("RLIMIT_CORE", 0)
print(*resource.getrlimit(resource.RLIMIT_CPU), *said, sep=",")
"""


@pytest.mark.parametrize(
    ("limit", "wanted", "found"),
    [
        ("-t 50", 60, "50,50,-t,"),
        ("-t 61", 60, "60,61,,"),
        ("-t 90", 60, "60,62,,"),
        ("-S -t 50", 60, "50,62,-t,"),
        ("-t unlimited", 60, "60,62,,"),
    ],
)
def test_the_smaller_of_two_limits_is_set(limit: str, wanted: int, found: str) -> None:
    done = under(limit, "-c", LOWER.format(wanted=wanted))
    assert done.stdout.strip() == found, done.stderr


def test_only_an_error_for_want_of_memory_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits.starved(MemoryError()) == ""
    monkeypatch.setattr(limits, "below", lambda kind, wanted: "-v" if kind == "RLIMIT_AS" else "")
    assert limits.starved(MemoryError()) == "this shell's ulimit -v leaves less memory than the 6 GiB wanted; raise it"
    assert "ulimit -v" in limits.starved(ImportError("libtorch_cuda.so: failed to map segment from shared object"))
    assert limits.starved(KeyError("name")) == ""
