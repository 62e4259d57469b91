"""That one module prints, that no name commands a terminal or a job, and that printing changes no exit code."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_words import NAMES

from reports import streams, terminal
from reports.printable import printable, readable

ROOT = Path(__file__).resolve().parent.parent
PRINTER = ROOT / "reports" / "terminal.py"
COMMANDS = re.compile(r"::|#\w*#\w*\[|section_(start|end):|travis_\w+:")


def prints(tree: ast.AST) -> set[str]:
    """Return the calls of a file that print."""
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    says = re.compile(r"print|(sys\.)?(std(out|err)|__std(out|err)__)\.write(lines)?|(typer|click)\.(s?echo|secho)")
    return {call for call in calls if says.fullmatch(call) or call.endswith(("console.print", "Console", "print_exc"))}


@pytest.mark.parametrize("room", ["audit", "attacks", "teachers", "reports"])
def test_one_module_prints(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        if path != PRINTER:
            assert prints(ast.parse(path.read_text(encoding="utf-8"))) == set(), path


@pytest.mark.parametrize("code", ["print(1)", "sys.stderr.write('')", "typer.echo(1)", "self._console.print(1)"])
def test_what_prints_is_seen(code: str) -> None:
    assert prints(ast.parse(code))


def harmless(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text) and not COMMANDS.search(text)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_no_name_is_a_command(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    terminal.say(name, lead="WORD")
    terminal.note(name)
    terminal.table((name, "number"), [(name, "1")])
    out, err = capfd.readouterr()
    assert harmless(out)
    assert harmless(err)
    assert err.count("\n") == 1
    assert "bold red" not in name or "[bold red]x[/]" in out
    terminal.data({name: name})
    out, _ = capfd.readouterr()
    assert harmless(out)
    assert json.loads(out) == {name: name}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_what_is_printable_stays_so_and_can_be_encoded(name: str) -> None:
    assert printable(printable(name)) == printable(name)
    assert readable(name).encode() == readable(readable(name)).encode()


def test_a_byte_of_a_name_that_is_no_utf_8_is_told() -> None:
    assert printable("caf\udce9") == r"caf\xe9"


def test_json_has_no_word_for_no_number(capfd: pytest.CaptureFixture[str]) -> None:
    terminal.data({"a": float("nan"), "b": [float("inf"), 1.5], "c": (Path("x"),)})
    assert json.loads(capfd.readouterr().out) == {"a": None, "b": [None, 1.5], "c": ["x"]}


def noisy() -> None:
    """Print by every way that a library has."""
    print("\x1b[31m::error::print")
    sys.stdout.buffer.write(b"##[error]buffer\xe9\n")
    sys.stderr.write("no end\x07")


def test_while_a_command_works_strangers_print_clean_lines_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    @terminal.alone
    def command() -> None:
        noisy()
        terminal.data({"ours": 1})

    command()
    out, err = capfd.readouterr()
    assert json.loads(out) == {"ours": 1}
    assert harmless(err)
    for said in ("print", "buffer", "no end"):
        assert said in err


NOISY = """
import os, subprocess, sys
import audit.commands.catalogue
from audit import cli
def listing(what):
    os.write(1, b"a library in C\\n")
    subprocess.run(["echo", "a process"])
    print("::error::python")
    return what
audit.commands.catalogue.listing = listing
sys.argv = ["audit", "ls", "ours"]
cli.main()
"""


def test_standard_output_is_ours_alone_whatever_libraries_and_processes_print() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "ours\n")
    assert "a library in C\na process\n" in done.stderr
    assert "::" not in done.stderr


TOLD = [sys.executable, "-c", "import sys; from audit.cli import main; sys.argv[0] = 'audit'; main()"]


@pytest.mark.parametrize(
    "streams", [">/dev/full", "| head -c 1", ">&-", "2>&-", ">&- 2>&- <&-", ">/dev/full 2>/dev/full"]
)
@pytest.mark.parametrize(("argv", "code"), [("ls data", 0), ("--help", 0), ("ls nothing", 2)])
def test_what_cannot_be_printed_changes_no_exit_code(streams: str, argv: str, code: int) -> None:
    line = f'"$@" {argv} {streams}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", line, "bash", *TOLD], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16", "ascii:strict"])
def test_no_encoding_of_a_terminal_changes_an_exit_code(encoding: str, tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"caf\xe9 \xf0\x9f\x98\x80 \xce\x93")
    done = subprocess.run(
        [*TOLD, "report", str(place)],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding, "LANG": "C"},
    )
    assert done.returncode == 4
    assert b"Traceback" not in done.stderr


def test_what_an_encoding_lacks_is_written_in_plain_characters() -> None:
    raw = io.BytesIO()
    stream = streams.Stream(io.TextIOWrapper(raw, encoding="ascii"))
    stream.write("−0.4 – Γ 日")
    stream.flush()
    assert raw.getvalue() == rb"-0.4 - Gamma \u65e5"


def test_a_stream_that_is_lost_takes_all_that_follows() -> None:
    closed = io.StringIO()
    closed.close()
    stream = streams.Stream(closed)
    assert stream.write("text") == 4
    assert not stream.isatty()
    stream.flush()


def test_a_traceback_is_told_clean(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        raise ZeroDivisionError("\x1b[31m::error::x\n##[error]y")
    except ZeroDivisionError as e:
        terminal.trace(e)
    err = capfd.readouterr().err
    assert harmless(err)
    assert "\n  File " in err
    assert "ZeroDivisionError" in err
