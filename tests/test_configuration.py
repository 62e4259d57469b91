"""Options from a file: their values stand for defaults, and what is wrong is told with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call

from audit.plan.options import Options
from teachers.errors import NothingAudited


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """Collect what `audit run` would audit."""
    requests: list[Options] = []

    def audit(options: Options, command: str) -> None:
        requests.append(options)
        raise NothingAudited("this is a test")

    monkeypatch.setattr("audit.surfaces.audit", audit)
    return requests


FILE = """
teacher = "demo"
data = "digits"
surface = ["probs", "top:2"]
attacks = ["soft-kd", "dkd"]
drop-classes = [3, "7"]
effort = "smoke"
seeds = 4
shots = 0.5
price = 2
isolate = false
thumbnails = false
header = ["Key=SECRET"]
"""


def test_values_of_a_file_are_defaults_and_the_command_line_wins(
    here: Path, asked: list[Options], capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "audit.toml").write_text(FILE)
    call(capsys, "run", "--config", "audit.toml")
    (found,) = asked
    assert (found.teacher, found.data, found.header) == ("demo", "digits", ("Key=SECRET",))
    assert (found.surface, found.attacks, found.drop_classes) == ("probs,top:2", "soft-kd,dkd", ("3,7",))
    assert (found.effort, found.seeds, found.shots, found.price) == ("smoke", 4, 0.5, 2.0)
    assert (found.isolate, found.thumbnails) == (False, False)
    call(capsys, "run", "--config", "audit.toml", "--seeds", "6", "--surface", "label", "--isolate")
    assert (asked[1].seeds, asked[1].surface, asked[1].isolate, asked[1].attacks) == (6, "label", True, "soft-kd,dkd")


def test_a_projects_own_table_is_taken_without_being_named(
    here: Path, asked: list[Options], capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.distill-audit]\neffort = "full"\n')
    call(capsys, "run", "--teacher", "demo")
    (here / "pyproject.toml").write_text('[project]\nname = "x"\n')
    call(capsys, "run", "--teacher", "demo")
    (here / "pyproject.toml").write_text("no TOML, and nothing of ours")
    call(capsys, "run", "--teacher", "demo")
    assert [request.effort for request in asked] == ["full", "standard", "standard"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("\nsufrace = 'label'", "audit.toml, line 2: sufrace is not an option of `audit run`; did you mean surface?"),
        ("[run]\nseeds = 3", "audit.toml, line 1: run is not an option of `audit run`"),
        ("seeds = 'many'", "audit.toml, line 1: seeds does not fit"),
        ("seeds = true", "audit.toml, line 1: seeds must be a text or a number"),
        ("seeds = 2026-01-01", "audit.toml, line 1: seeds must be a text or a number"),
        ("isolate = 'yes'", "audit.toml, line 1: isolate must be true or false"),
        ("header = 'A=B'", "audit.toml, line 1: header must be a list of texts"),
        ("header = [1, [2]]", "audit.toml, line 1: header"),
        (
            "drop-classes = ['a', 'b,c']",
            "audit.toml, line 1: drop-classes separates names by commas, and 'b,c' holds one",
        ),
        ("data = ['a', 'b']", "audit.toml, line 1: data must be a text or a number"),
        ("price = -1", "audit.toml, line 1: price does not fit"),
        ("config = 'other.toml'", "audit.toml, line 1: config is not an option"),
        ("help = true", "audit.toml, line 1: help is not an option"),
        ("trust-model-code = true", "audit.toml, line 1: trust-model-code gives consent"),
        ("seeds = ", "audit.toml is not valid TOML"),
        ("a = " + "[" * 5_000, "audit.toml is nested too deeply"),
        ("a = " + "9" * 5_000, "audit.toml is not valid TOML"),
    ],
)
def test_what_is_wrong_is_told_by_file_line_and_key(
    here: Path, asked: list[Options], capsys: pytest.CaptureFixture[str], content: str, sentence: str
) -> None:
    (here / "audit.toml").write_text(content)
    code, out, err = call(capsys, "run", "--teacher", "demo", "--config", "audit.toml")
    assert (code, out, asked) == (2, "", []), err
    assert sentence in err


def test_a_file_that_cannot_be_read_gets_a_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("none.toml", "."):
        code, _, err = call(capsys, "run", "--teacher", "demo", "--config", name)
        assert (code, "with --config" in err) == (2, True), err


def test_options_of_another_command_are_left_to_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "audit.toml").write_text('policy = "p.toml"\nlike = "before"\nattacks = "nosuch"\n')
    code, _, err = call(capsys, "cache", "warm", "--config", "audit.toml", "--cache", str(here / "cache"))
    assert (code, "unknown attack 'nosuch'" in err) == (2, True), err
