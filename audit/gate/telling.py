"""What `audit gate` prints."""

from __future__ import annotations

import json

from rich.console import Console

from audit.gate import Gated
from reports.printable import printable

WORDS = {0: "the policy passes", 1: "the policy fails", 3: "undecided", 5: "nothing was audited"}


def tell(done: Gated) -> None:
    """Print what each rule says, for a person."""
    console = Console(highlight=False)
    console.print(f"{printable(done.record.teacher.name)}: {WORDS[done.code]}", markup=False, soft_wrap=True)
    for found in done.findings:
        sentence = printable(found.sentence)
        console.print(f"  {found.outcome:<8}  {found.rule:<10}  {sentence}", markup=False, soft_wrap=True)


def tell_json(done: Gated) -> None:
    """Print the same for a script."""
    found = [one._asdict() for one in done.findings]
    told = {"passes": done.passes, "exit_code": done.code, "word": done.record.verdict.word, "findings": found}
    print(json.dumps({**told, "folder": str(done.folder)}, indent=1))
