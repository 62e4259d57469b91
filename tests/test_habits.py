"""What users expect of any command: its version, help where they look for it, completion, and its own door."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from audit import __version__, cli
from audit.cli import EXAMPLES
from reports.settings import PANELS

ROOT = Path(__file__).resolve().parent.parent


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Run the command line in this process; return its exit code and what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["audit", *argv])
        code = cli._main()
    return (code, *capsys.readouterr())


def started(*argv: str, cwd: Path = ROOT, code: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, on these packages: with arguments, or with code that reads them."""
    said = ["-c", code] if code else []
    path = {"PYTHONPATH": str(ROOT), "TERM": "dumb"}
    return subprocess.run(
        [sys.executable, *said, *argv], capture_output=True, text=True, cwd=cwd, env={**os.environ, **path, **env}
    )


def commands(group: object = None, *above: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    """List every command as it is typed, and whether there are commands below it."""
    group = group or typer.main.get_command(cli.app)
    below = getattr(group, "commands", {})
    yield above, bool(below)
    for name, command in below.items():
        yield from commands(command, *above, name)


ALL = dict(commands())
GROUPS = [argv for argv, group in ALL.items() if group]


def test_the_groups_are_found() -> None:
    assert GROUPS == [(), ("cache",)]
    assert {("run",), ("cache", "prune")} < ALL.keys()


@pytest.mark.parametrize("argv", ALL, ids=" ".join)
def test_every_command_has_help_by_both_names(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    short, long = (call(capsys, *argv, name) for name in ("-h", "--help"))
    assert short == long
    assert (short[0], short[2]) == (0, "")
    assert " ".join(("audit", *argv, "[OPTIONS]")) in short[1].splitlines()[0]
    assert "-h, --help" in short[1]


@pytest.mark.parametrize("argv", GROUPS, ids=" ".join)
def test_a_group_alone_prints_its_help_as_help(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, *argv) == call(capsys, *argv, "--help")


def test_help_is_for_who_asks_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["cache", "nothing"], ["nothing"], ["run"], ["--bogus"]):
        code, out, err = call(capsys, *argv)
        assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("argv", [["--version"], ["--version", "run"]])
def test_the_version_is_told(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, *argv) == (0, f"distill-audit {__version__}\n", "")


@pytest.mark.parametrize("argv", [["audit"], ["audit", "run", "--teacher", "demo"], ["audit", "--help"], ["audit.cli"]])
def test_python_m_is_refused_by_naming_the_command(argv: list[str], tmp_path: Path) -> None:
    """Also where it would go wrong: in a folder whose packages are called like ours."""
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "__init__.py").touch()
    here = ROOT if argv[0] == "audit.cli" else tmp_path
    done = started("-m", *argv, cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"audit: `python -m` [^\n]*; use the command `audit`[^\n]*\n", done.stderr)


COMPLETED = "import sys; from audit.cli import main; sys.argv = ['audit']; main()"


@pytest.mark.parametrize(
    ("typed", "found"), [("audit ca", "cache"), ("audit cache pru", "prune"), ("audit run --teach", "--teacher")]
)
def test_a_shell_completes_commands_and_options_without_importing_what_is_heavy(typed: str, found: str) -> None:
    heavy = "; import atexit; atexit.register(lambda: print([m for m in ('torch', 'pandas') if m in sys.modules]))"
    code = COMPLETED.replace("; main()", f"{heavy}; main()")
    words = {"_AUDIT_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = started(code=code, **words)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [found, "[]"], "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_and_installed_in_the_users_home(shell: str, tmp_path: Path) -> None:
    detected = f"import shellingham; shellingham.detect_shell = lambda *_: ('{shell}', '/bin/{shell}'); "
    code = (detected + COMPLETED).replace("['audit']", "['audit', sys.argv[1]]")
    shown = started("--show-completion", code=code)
    assert (shown.returncode, "_AUDIT_COMPLETE=complete_" in shown.stdout) == (0, True)
    assert started("--install-completion", code=code, HOME=str(tmp_path)).returncode == 0
    assert any(path.is_file() for path in tmp_path.rglob("*audit*"))


# What Windows has not; rich decides by the platform when it is imported.
WINDOWS = """
import os, signal, sys
import rich.console, typer
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGSTOP", "pthread_sigmask", "setitimer"):
    delattr(signal, name)
for name in ("O_NOFOLLOW", "O_NONBLOCK", "fork", "getuid", "killpg", "mkfifo", "setsid"):
    delattr(os, name)
from audit.cli import main
sys.platform, *sys.argv[1:] = sys.argv[1:]
main()
"""


@pytest.mark.parametrize("platform", ["win32", "cygwin", "msys"])
@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["run", "--teacher", "nope.pt"], []])
def test_windows_is_refused_by_a_sentence_before_anything_else(platform: str, argv: list[str]) -> None:
    done = started(platform, *argv, code=WINDOWS)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"audit: this system is Windows ({platform}); audits run on Linux and macOS; ")
    assert "WSL" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("platform", ["linux", "darwin", "freebsd14"])
def test_no_other_platform_is_refused(platform: str) -> None:
    assert started(platform, "--version", code=WINDOWS).returncode == 0


def test_the_options_of_an_audit_stand_in_groups_with_examples_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "plan"):
        told = call(capsys, command, "--help")[1]
        titles = re.findall(r"^(\S.*):$", told, re.MULTILINE)
        assert titles == [*PANELS, "Options", "Examples"]
        assert told.partition("\nOptions:")[2].partition("\nExamples:")[0].split()[:2] == ["-h,", "--help"]
        assert told.index("--teacher") < told.index("--data") < told.index("--attacks") < told.index("--jobs")


def test_the_examples_of_help_name_options_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for command in EXAMPLES.values() for line in command]
    assert len(lines) > 4
    for line in lines:
        told = call(capsys, line.split()[1], "--help")[1]
        assert f"  {line}\n" in told
        assert all(option in told.partition("\nExamples:")[0] for option in re.findall(r"--[\w-]+", line))
