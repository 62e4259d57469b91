"""Show an audit in a GitHub job: annotations, step summary and outputs. Does nothing outside GitHub."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from audit.policy.rules import Outcome, RuleResult
from reports import markdown, terminal
from reports.printable import clean
from reports.record import Record, Word

LEVELS: dict[Outcome, str] = {"fail": "error", "nothing": "error", "separate": "warning", "warn": "warning"}
WORDS: dict[Word, str] = {"DISTILLABLE": "error", "INCONCLUSIVE": "warning", "UNDISTILLABLE": "notice"}
MARKS: dict[Outcome, str] = {"pass": "✅", "warn": "⚠️", "fail": "❌", "separate": "❔", "nothing": "❌"}


def annotate(record: Record, folder: Path, word: Word, passes: bool, findings: Sequence[RuleResult] = ()) -> None:
    """Show an audit in the GitHub job, if this is one; `word`: the worst verdict of its surfaces.

    Annotations go to standard error, which GitHub reads as well, so that standard output stays for --json.
    """
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in commands(record, word, findings):
            terminal.command(line)
    _append("GITHUB_STEP_SUMMARY", summary(record, findings))
    outputs = {"verdict": word, "passes": str(passes).lower(), "report": str(folder / "report.html")}
    _append("GITHUB_OUTPUT", "".join(f"{name}={_line(value)}\n" for name, value in outputs.items()))


def commands(record: Record, word: Word, findings: Sequence[RuleResult]) -> Iterable[str]:
    """Return workflow commands: one for each finding that does not pass; without a policy, one for the verdict."""
    name = record.teacher.name
    told = [(LEVELS[f.outcome], f"{f.rule} of {name}", f.sentence) for f in findings if f.outcome != "pass"]
    if not told:
        level, title = ("notice", f"policy passes for {name}") if findings else (WORDS[word], f"{word}: {name}")
        told = [(level, title, record.verdict.sentence)]
    return [command(*one) for one in told]


def command(level: str, title: str, message: str) -> str:
    """Return one workflow command, with the escapes that GitHub's runner decodes."""
    return f"::{level} title={_escaped(title, ':,')}::{_escaped(message)}"


def summary(record: Record, findings: Sequence[RuleResult]) -> str:
    """Return the policy's findings, if there are any, and the record's summary, as Markdown."""
    lines = ["## Policy", "", "| | Rule | Finding |", "|---|---|---|"]
    lines += [f"| {MARKS[f.outcome]} {f.outcome} | {f.rule} | {markdown.escape(f.sentence)} |" for f in findings]
    return ("\n".join(lines) + "\n\n" if findings else "") + markdown.render(record)


def _escaped(text: str, more: str = "") -> str:
    text = clean(text)
    for character in "%" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _line(text: str) -> str:
    return " ".join(text.splitlines())


def _append(variable: str, text: str) -> None:
    """Append to the file that an environment variable names, if it is set; warn if the file cannot be written."""
    if path := os.environ.get(variable):
        try:
            with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as f:
                f.write(text)
        except OSError as e:
            terminal.note(f"audit: {path} of {variable} was not written ({e.strerror}); the exit code does not change")
