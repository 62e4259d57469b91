"""The gate: apply a policy to an audit's folder; the result is a list of findings and one exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from audit.finished.verify import verify
from audit.plan.names import listed
from audit.plan.suite import Suite
from audit.policy.file import PolicyFile
from audit.policy.rules import Outcome, RuleResult, findings, refuse_unknown
from reports.record import Record, RecordError, by_surface, load

CODES: dict[Outcome, int] = {"nothing": 5, "fail": 1, "separate": 3, "warn": 0, "pass": 0}  # the first one decides

VERIFIED = RuleResult("record", "pass", "every number, flag and report follows from the stored results")


@dataclass(frozen=True)
class GateResult:
    """A record, its folder, and the policy's findings about it."""

    record: Record
    folder: Path
    findings: tuple[RuleResult, ...]
    day: date = field(default_factory=lambda: today())

    @property
    def code(self) -> int:
        """The exit code."""
        return code_of(self.findings)

    @property
    def passes(self) -> bool:
        """Whether the policy passes."""
        return self.code == 0


def gate(folder: Path, file: PolicyFile) -> GateResult:
    """Verify the record of a folder, then apply a policy; if it does not verify, no rule is applied.

    Raises RecordError if a record cannot be read, UsageError if the policy does not fit it.
    """
    folder = folder.parent if folder.name == "record.json" and folder.is_file() else folder
    if not folder.is_dir():
        raise RecordError(f"{folder} is not a folder; give the one that `audit run` wrote")
    record = load(folder)
    if file.baseline is not None and file.baseline.resolve().is_relative_to(folder.resolve()):
        raise file.wrong(("baseline", "record"), "names the audit that is judged; give an earlier one")
    wrong = next(verify(folder), None)
    if wrong is not None:
        return GateResult(record, folder, (RuleResult("record", "fail", f"it does not verify: {wrong}"),))
    day = today()
    found = (VERIFIED, *findings(by_surface(record, folder), file, day, baseline(file)))
    return GateResult(record, folder, found, day)


def code_of(found: Sequence[RuleResult]) -> int:
    """Return the exit code of a policy's findings: that of the first outcome in CODES that is among them."""
    outcomes = {one.outcome for one in found}
    return next(code for outcome, code in CODES.items() if outcome in outcomes)


def today() -> date:
    """Return today's date, UTC."""
    return datetime.now(UTC).date()


def baseline(file: PolicyFile) -> tuple[Record, ...]:
    """Return the records of a policy's baseline; none where the policy names none.

    Raises RecordError if one cannot be read.
    """
    path = file.baseline
    if path is None:
        return ()
    record = load(path)
    return by_surface(record, path if path.is_dir() else path.parent)


def foresee(file: PolicyFile, suite: Suite, attacks: str, surfaces: Sequence[str]) -> None:
    """Raise UsageError, before anything is trained, if the requested audit can never meet the policy.

    Also raises what `baseline` raises.
    """
    refuse_unknown(file, ())
    baseline(file)
    for number, waiver in enumerate(file.policy.waive):
        if waiver.until < today():
            raise file.wrong(("waive", number, "until"), f"is {waiver.until}, which is past; renew it or remove it")
    asked, names = file.policy.suite, {name.split(":")[0] for name in listed(attacks)}
    if asked is not None and asked.name != suite.name:
        raise file.wrong(("suite", "name"), f'is "{asked.name}", this audit runs {suite.name}; see --effort')
    if asked is not None and asked.complete and "all" not in names and not set(suite.attacks) <= names:
        raise file.wrong(
            ("suite", "complete"), f"is true, but --attacks {attacks} is only a part of the suite; leave --attacks out"
        )
    for surface in file.policy.surfaces:
        if surface not in surfaces:
            given = ",".join((*surfaces, surface))
            raise file.wrong(("surfaces",), f'has "{surface}", which this audit does not run; give --surface {given}')
