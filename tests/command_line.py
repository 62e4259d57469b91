"""The command line as a user types it: inside the process of a test, or in one of its own."""

import sys
from pathlib import Path

import pytest
import typer.main

from audit import cli

APP = typer.main.get_command(cli.app)  # typer would build all commands again for every call


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Run `audit` with arguments; return its exit code, and what it wrote to standard output and standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["audit", *argv])
        patch.setattr(cli, "app", APP)
        code = cli._main()
    out, err = capsys.readouterr()
    return code, out, err


BRIEF = """
from dataclasses import replace
from audit.cli import main
from audit.plan.suite import EFFORTS, SMOKE

EFFORTS["smoke"] = replace(SMOKE, name="brief", seeds=2, bite_seeds=2, steps=150)
if __name__ == "__main__":
    main()
"""


def command(cache: Path, out: Path, *more: str) -> list[str]:
    """Return the command of a process that audits the demo teacher with two workers, and students of some seconds."""
    options = ["--data", "digits", "--effort", "smoke", "--jobs", "2", "--cache", str(cache), "--out", str(out)]
    script = cache.parent / "entry.py"
    script.write_text(BRIEF)
    return [sys.executable, str(script), "run", "--teacher", "demo", *options, *more]
