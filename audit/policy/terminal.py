"""Terminal output of `audit gate`."""

from __future__ import annotations

from audit.policy.gate import GateResult
from reports import terminal

WORDS = {0: "the policy passes", 1: "the policy fails", 3: "undecided", 5: "nothing was audited"}


def print_gate(done: GateResult) -> None:
    """Print the outcome of each rule for a person."""
    terminal.say(f"{done.record.teacher.name}: {WORDS[done.code]}", whole=True)
    for found in done.findings:
        terminal.say(f"  {found.outcome:<8}  {found.rule:<10}  {found.sentence}", whole=True)


def print_gate_json(done: GateResult) -> None:
    """Print the outcome of each rule as JSON."""
    found = [one._asdict() for one in done.findings]
    told = {"passes": done.passes, "exit_code": done.code, "word": done.record.verdict.word, "findings": found}
    terminal.data({**told, "folder": str(done.folder)})
