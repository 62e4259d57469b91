"""The command line as a user types it: inside the process of a test, or in one of its own."""

import sys
from pathlib import Path

import pytest

from audit import cli


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Run `audit` with arguments; return its exit code, and what it wrote to standard output and standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["audit", *argv])
        code = cli._main()
    out, err = capsys.readouterr()
    return code, out, err


def command(cache: Path, out: Path, *more: str) -> list[str]:
    """Return the command of a process that audits the demo teacher at smoke effort, with two workers."""
    options = ["--data", "digits", "--effort", "smoke", "--jobs", "2", "--cache", str(cache), "--out", str(out)]
    entry = "from audit.cli import main\nif __name__ == '__main__':\n    main()\n"
    script = cache.parent / "entry.py"
    script.write_text(entry)
    return [sys.executable, str(script), "run", "--teacher", "demo", *options, *more]
