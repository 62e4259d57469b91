"""What a GitHub job is told, and that nothing in a name can tell it something else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import HOSTILE
from sample_record import large_record, sample_record

from audit.policy import github
from audit.policy.rules import RuleResult
from reports import markdown
from reports.printable import clean

FOUND = (
    RuleResult("record", "pass", "all of it follows"),
    RuleResult("waiver", "warn", "dkd is waived"),
    RuleResult("verdict", "separate", "undecided"),
    RuleResult("age", "fail", "too old"),
)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder of the files that a job's variables name."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("DISTILL_AUDIT_TOKEN", "s3cret")
    (tmp_path / "summary").write_text("before\n")
    return tmp_path


def undone(text: str) -> str:
    """Undo the escapes of a workflow command, as GitHub's runner does (actions/runner, ActionCommand)."""
    for escaped, plain in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(escaped, plain)
    return text


@pytest.mark.parametrize("name", [*HOSTILE.values(), "100 %: a, b::c\r\n::error::d%0A"])
def test_a_command_is_one_line_and_reads_back(name: str) -> None:
    line = github.command("warning", name, name)
    assert line.isprintable()
    parsed = re.fullmatch(r"::warning title=([^:,]*)::(.*)", line)
    assert parsed is not None
    assert (undone(parsed[1]), undone(parsed[2])) == (clean(name), clean(name))


def test_each_finding_that_did_not_pass_is_annotated_by_its_weight() -> None:
    lines = github.commands(sample_record(), "DISTILLABLE", FOUND)
    assert lines == [
        "::warning title=waiver of cmim.pt::dkd is waived",
        "::warning title=verdict of cmim.pt::undecided",
        "::error title=age of cmim.pt::too old",
    ]
    assert github.commands(sample_record(), "DISTILLABLE", FOUND[:1])[0].startswith("::notice title=policy passes for")


@pytest.mark.parametrize(
    ("word", "level"), [("DISTILLABLE", "error"), ("INCONCLUSIVE", "warning"), ("UNDISTILLABLE", "notice")]
)
def test_without_a_policy_the_word_is_annotated(word: str, level: str) -> None:
    record = sample_record(word)  # type: ignore[arg-type]
    (line,) = github.commands(record, record.verdict.word, ())
    assert line.startswith(f"::{level} title={word}%3A cmim.pt::{record.verdict.sentence[:20]}")


def test_a_job_gets_annotations_a_summary_and_outputs(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = sample_record()
    github.annotate(record, Path("out"), "DISTILLABLE", False, FOUND)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 3)
    summary = (job / "summary").read_text()
    assert summary.startswith("before\n## Policy\n")
    assert "| ❌ fail | age | too old |" in summary
    assert summary.endswith(markdown.render(record))
    assert (job / "output").read_text() == "verdict=DISTILLABLE\npasses=false\nreport=out/report.html\n"
    github.annotate(record, Path("a\nverdict=b"), "DISTILLABLE", True)
    assert len((job / "output").read_text().splitlines()) == 6, "a name is no output of its own"
    assert "s3cret" not in summary + err + (job / "output").read_text()


@pytest.mark.parametrize("place", ["missing/file", "."])
def test_a_file_that_cannot_be_written_is_a_warning(
    place: str, job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(job / place))
    github.annotate(sample_record(), Path("out"), "DISTILLABLE", False, ())
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("audit: "))
    assert "of GITHUB_STEP_SUMMARY was not written" in line
    assert "verdict=DISTILLABLE" in (job / "output").read_text()


def test_elsewhere_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    github.annotate(sample_record(), Path("out"), "DISTILLABLE", False, FOUND)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_surface_does_not_break_the_summary(name: str) -> None:
    record = large_record()
    first, *others = record.surfaces
    hostile = first.model_copy(update={"surface": name, "word": "UNDISTILLABLE", "top5": 1.0, "calibration_error": 0.0})
    text = markdown.render(record.model_copy(update={"surfaces": (hostile, *others)}))
    assert text.count("\n\n") == markdown.render(record).count("\n\n")
    assert "<" not in text


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_sentence_does_not_break_the_summary(name: str) -> None:
    text = github.summary(sample_record(), (RuleResult("verdict", "fail", name),)).split("## DISTILLABLE")[0]
    assert text.count("\n|") == 3
    assert "<" not in text
