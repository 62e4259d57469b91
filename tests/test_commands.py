"""Every command of README and docs is executed: a reader whole, what trains or asks up to what it would start."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import call
from record_changes import updated
from shipped import DEMO

from audit import cli
from reports.record import load, save

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# What a command that trains or asks calls, after its options are read and checked.
STARTS = (
    "audit.surfaces.audit",
    "audit.forecast.forecast.forecast",
    "audit.diagnosis.diagnose.diagnose",
    "audit.inspection.inspection.inspect",
    "audit.teach.teach",
    "audit.attempt.attempt.attempt",
    "audit.limits.limit.limit",
    "audit.warm.warm",
    "audit.selftest.selftest",
)
FILES = ("model.pt", "resnet.pt", "weights.pt", "model.onnx", "plain.pt")


class Started(BaseException):
    """Raised in the place of training."""


def blocks(text: str) -> Iterator[str]:
    """Return the commands of fenced blocks, one each, without comments."""
    for block in re.findall(r"```(?:sh|console|bash)\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("audit "):
                yield line.split("  #")[0].split(" # ")[0].strip()


def spans(text: str) -> Iterator[str]:
    """Return the commands that a sentence names."""
    yield from re.findall(r"(?<!`)`(audit [^`]+)`(?!`)", text)


FENCED = sorted({line for page in PAGES for line in blocks(page.read_text(encoding="utf-8"))})
NAMED = sorted({" ".join(line.split()) for page in PAGES for line in spans(page.read_text(encoding="utf-8"))})


@cache
def known() -> Any:
    """Return the program as click has it."""
    return typer.main.get_command(cli.app)


def options(line: str) -> tuple[Any, list[str]]:
    """Return the command that a line calls and the options that it names."""
    words = [word.strip("[]().,;:…") for word in line.split()[1:]]
    command = known()
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    return command, [word.partition("=")[0] for word in words if word.startswith("--")]


@pytest.mark.parametrize("line", [*FENCED, *NAMED])
def test_a_command_and_its_options_exist(line: str) -> None:
    command, named = options(line)
    assert command is not known() or line in {"audit -h", "audit --install-completion", "audit …"}, line
    there = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert set(named) <= there | {"--help", "--version", "--install-completion", "--show-completion"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with everything that the commands name."""
    for name in FILES:
        (tmp_path / name).write_bytes(b"")
    for split in ("train", "test"):
        (tmp_path / "DIR" / split / "a").mkdir(parents=True)
    record = load(DEMO)
    names = ("audit-out/model-standard-0-1a2b3c4d", "A", "B", "audit-out/v1", "audit-out/v2", "zoo/one", "zoo/two")
    for number, name in enumerate(names):
        told = updated(record, {"audit": f"{number:064x}"})
        save(told, tmp_path / name / "record.json")
    save(record, tmp_path / "DIR" / "record.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_AUDIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "cells").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("line", FENCED)
def test_a_command_of_a_page_is_executed(
    line: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(*_: object, **__: object) -> None:
        raise Started

    for name in STARTS:
        monkeypatch.setattr(name, start)
    monkeypatch.setattr("audit.plan.engines.find_spec", lambda name: True)  # whether Ray is installed here or not
    words = shlex.split(line)[1:]
    argv = [found for word in words for found in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
    if line.startswith("audit cache import"):
        assert call(capsys, "cache", "export", argv[-1])[0] == 0
    try:
        code, _, err = call(capsys, *argv)
    except Started:
        return
    assert (code, err) == (0, ""), line
