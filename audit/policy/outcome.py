"""Keep what a policy said of an audit in the audit's folder, where its page shows it; and ask it again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from audit.finished.design import Disagreement
from audit.plan.toml_files import TomlFile
from audit.policy.file import PURPOSE, PolicyFile, parsed
from audit.policy.gate import VERIFIED, GateResult, code_of
from audit.policy.rules import RuleResult, findings
from reports import outputs, policy_outcome
from reports.policy_outcome import FILE, PolicyOutcome, RuleOutcome
from reports.record import Record, by_surface, digest
from teachers.errors import AuditError, RefusedInput
from teachers.files import write_whole


def keep(done: GateResult, file: PolicyFile) -> None:
    """Write what a policy said beside the record, and the page with it.

    Raises RefusedInput where the folder cannot be written.
    """
    found = PolicyOutcome(
        record=digest(done.record),
        policy=file.path.name,
        text=file.text,
        day=done.day,
        code=done.code,
        findings=tuple(RuleOutcome(**one._asdict()) for one in done.findings),
    )
    try:
        write_whole(done.folder / FILE, found.model_dump_json(indent=1).encode())
        outputs.write_all(done.record, done.folder, ("html",))
    except OSError as e:
        raise RefusedInput(f"{done.folder} cannot be written ({e.strerror}); leave --page out") from e


def asked_again(record: Record, folder: Path) -> Iterator[Disagreement]:
    """Ask the policy that a folder keeps again, on its day; a regression is not: its baseline lies elsewhere."""
    kept = policy_outcome.of(record, folder)
    if kept is None:
        return
    said = [RuleResult(one.rule, one.outcome, one.sentence) for one in kept.findings]  # type: ignore[arg-type]
    try:
        file = parsed(TomlFile(Path(kept.policy), kept.text, PURPOSE))
        if file.policy.baseline is not None:
            return
        now = [VERIFIED, *findings(by_surface(record, folder), file, kept.day)]
    except AuditError as e:
        yield Disagreement(FILE, "a policy that was asked", f"one that cannot be asked ({e})")
        return
    if said != now:
        at = next((i for i, (a, b) in enumerate(zip(said, now, strict=False)) if a != b), min(len(said), len(now)))
        here, there = (rows[at].sentence if at < len(rows) else "nothing" for rows in (said, now))
        yield Disagreement(FILE, here, there)
    if kept.code != (found := code_of(now)):
        yield Disagreement(FILE, f"exit code {kept.code}", f"exit code {found}")
