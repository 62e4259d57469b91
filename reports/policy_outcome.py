"""What a policy said of an audit, as a file beside the record: the page shows it, and `audit verify` asks again."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from reports import handed
from reports.base import Data
from reports.record import Record, digest

FILE: Final = "policy.json"
MOST: Final = 4 * handed.MIB


class RuleOutcome(Data):
    """The outcome of one rule: pass, warn, fail, separate or nothing, with a sentence."""

    rule: str
    outcome: str
    sentence: str


class PolicyOutcome(Data):
    """A policy, the day on which it was asked, and what it said."""

    record: str  # sha256 of the record.json that it was asked about
    policy: str  # the name of its file
    text: str  # and all of it
    day: date
    code: int  # the gate's exit code
    findings: tuple[RuleOutcome, ...]

    @property
    def word(self) -> str:
        """PASS, FAIL or UNDECIDED, as the exit code has it."""
        return {0: "PASS", 3: "UNDECIDED"}.get(self.code, "FAIL")


def of(record: Record, folder: Path) -> PolicyOutcome | None:
    """Return what a policy said of a record; None where no file says so, or only of another record."""
    try:
        found = PolicyOutcome.model_validate_json(handed.text(folder / FILE, MOST))
    except (OSError, handed.Unfit, ValidationError):
        return None
    return found if found.record == digest(record) else None
