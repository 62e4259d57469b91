"""What the gate does in every situation: `PYTHONPATH=. python tests/gate_situations.py` prints docs/gate.md's table."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from gate_records import (
    RECORDS,
    aside,
    distillable,
    known,
    made,
    plain,
    registered,
    several,
    undistillable,
    written,
)

from audit import cli
from audit.plan.design import VERSION
from reports import html, outputs
from reports.policy_outcome import PolicyOutcome
from reports.record import Record, dumped, save

TODAY = date(2026, 6, 15)
MORE, ALIKE = (1_100, 100), (910, 100)  # of soft KD in a later audit, against ABOVE

WAIVE = '[[waive]]\nattack = "soft-kd"\nreason = "answers are metered"\nuntil = 2026-06-30\n'
EVERYTHING = f"""surfaces = ["probs"]
tolerance = 0.5
max_age_days = 30
checkpoint = "{plain().teacher.sha256}"
[suite]
name = "gate-1"
"""
BASELINE = '[baseline]\nrecord = "before"\n'


@dataclass(frozen=True)
class Situation:
    """An audit, a policy, and what may lie beside them."""

    told: str
    policy: str = ""
    audit: str | Callable[[Path], object] = "UNDISTILLABLE"  # one of RECORDS, or what writes a folder
    shown: str = ""  # of the policy, in the table; all of it if not given
    before: Callable[[Path], object] | None = None  # what writes the baseline
    argv: tuple[str, ...] = ()  # of another command


def of(make: Callable[[], Record]) -> Callable[[Path], object]:
    """Return what writes the record that is made."""
    return lambda folder: written(make(), folder)


def later(won: tuple[int, int]) -> Record:
    """Return an audit of other students, of which those of soft KD got so many right and wrong."""
    return known(plain(), {"soft-kd": won}, salt=1)


def spoilt(name: str, change: Callable[[str], str]) -> Callable[[Path], object]:
    """Return what writes an audit of which one file was changed afterwards."""

    def write(folder: Path) -> None:
        path = written(distillable(), folder) / name
        path.write_text(change(path.read_text()))

    return write


def changed(**part: dict[str, object]) -> Record:
    """Return an audit of which parts are others."""
    record = undistillable()
    parts = {name: getattr(record, name).model_copy(update=values) for name, values in part.items()}
    return made(record.model_copy(update=parts))


def partial() -> Record:
    """Return an audit that was not asked for soft KD."""
    record = undistillable()
    rows = {
        "comparisons": tuple(row for row in record.comparisons if row.attack != "soft-kd"),
        "trials": tuple(t for t in record.trials if t.cell.technique != "soft-kd" or t.teacher is None),
        "ledger": tuple(row for row in record.ledger if row.attack != "soft-kd"),
        "suite": record.suite.model_copy(update={"complete": False}),
    }
    return made(record.model_copy(update=rows))


def ancient(folder: Path) -> None:
    folder.mkdir()
    save(plain().model_copy(update={"schema_version": 2}), folder / "record.json")


def garbled(folder: Path) -> None:
    folder.mkdir()
    (folder / "record.json").write_text("no record")


def two(folder: Path) -> Path:
    return several({"probs": distillable(), "uint8": undistillable()}, folder)


def mixed(folder: Path) -> Path:
    return several({"probs": distillable(), "uint8": changed(teacher={"sha256": 64 * "0"})}, folder)


SITUATIONS = (
    Situation("UNDISTILLABLE, nothing else asked"),
    Situation("everything asked and met", EVERYTHING, shown="surfaces, tolerance, max_age_days, checkpoint, [suite]"),
    Situation("DISTILLABLE", audit="DISTILLABLE"),
    Situation("INCONCLUSIVE, its meaning left out", audit="INCONCLUSIVE"),
    *(
        Situation("INCONCLUSIVE", f'inconclusive = "{meaning}"\n', "INCONCLUSIVE")
        for meaning in ("fail", "warn", "pass", "separate")
    ),
    Situation("undecided within 0.5 points, but not within 0.2", "tolerance = 0.2\n", "close"),
    Situation("a policy's tolerance above the audit's: never loosened", "tolerance = 5\n", "INCONCLUSIVE"),
    Situation("DISTILLABLE by an attack that is waived", WAIVE, "DISTILLABLE", shown="[[waive]]"),
    Situation("the waiver's last day", WAIVE.replace("06-30", "06-15"), "DISTILLABLE", shown="until = today"),
    Situation("an expired waiver", WAIVE.replace("06-30", "06-14"), "DISTILLABLE", shown="until = yesterday"),
    Situation("an expired waiver that nothing needs", WAIVE.replace("06-30", "06-14"), shown="until = yesterday"),
    Situation("waived on another surface", WAIVE + 'surface = "label"\n', "DISTILLABLE", 'surface = "label"'),
    Situation("a waiver of an attack that was not audited", WAIVE.replace("soft-kd", "dfme"), shown='attack = "dfme"'),
    Situation("a waiver of an unknown attack", WAIVE.replace("soft-kd", "sotf-kd"), shown='attack = "sotf-kd"'),
    Situation("another checkpoint", f'checkpoint = "{64 * "0"}"\n', shown='checkpoint = "0000…"'),
    Situation("an audit of 14 days", "max_age_days = 14\n"),
    Situation("a stale audit, of 14 days", "max_age_days = 13\n"),
    Situation(
        "an audit dated after today",
        "max_age_days = 30\n",
        of(lambda: changed(times={"created": "2026-06-16T00:10:00+00:00"})),
    ),
    Situation(
        "a crashed attack, INCONCLUSIVE may pass",
        'inconclusive = "pass"\n',
        of(lambda: aside(undistillable(), "failed", "soft-kd")),
    ),
    Situation(
        "a crashed attack that is waived",
        WAIVE,
        of(lambda: aside(undistillable(), "failed", "soft-kd")),
        shown="[[waive]]",
    ),
    Situation(
        "a part of the suite, INCONCLUSIVE may pass",
        'inconclusive = "pass"\n[suite]\nname = "gate-1"\n',
        of(partial),
        shown='inconclusive = "pass", [suite]',
    ),
    Situation("another suite", '[suite]\nname = "standard-4"\n'),
    Situation("an unknown suite", '[suite]\nname = "standrad-2"\n'),
    Situation("a surface that was not audited", 'surfaces = ["probs", "label"]\n'),
    Situation("two surfaces, one of them DISTILLABLE", audit=two),
    Situation("the same, only the other is asked for", 'surfaces = ["uint8"]\n', two),
    Situation("a surface of another teacher put beside the first", 'surfaces = ["uint8"]\n', mixed),
    Situation("no attack was judged", audit=of(lambda: aside(undistillable(), "failed"))),
    Situation("every margin as in the baseline, DISTILLABLE", BASELINE, "DISTILLABLE", before=of(distillable)),
    Situation("a regression", BASELINE, of(lambda: later(MORE)), before=of(distillable)),
    Situation(
        "a regression by an attack that is waived",
        BASELINE + WAIVE,
        of(lambda: later(MORE)),
        "[baseline], [[waive]]",
        of(distillable),
    ),
    Situation("smaller margins than the baseline's", BASELINE, of(undistillable), before=of(distillable)),
    Situation("perhaps a regression", BASELINE, of(lambda: later(ALIKE)), before=of(distillable)),
    Situation(
        "perhaps a regression",
        f'{BASELINE}undecided = "fail"\n',
        of(lambda: later(ALIKE)),
        before=of(distillable),
    ),
    Situation(
        "a baseline of another task",
        BASELINE,
        before=of(lambda: changed(task={"digest": 64 * "0"})),
    ),
    Situation(
        "a baseline of another version of the design",
        BASELINE,
        before=of(lambda: made(undistillable().model_copy(update={"design": VERSION}))),
    ),
    Situation("no baseline where the policy says", BASELINE),
    Situation("an unreadable baseline", BASELINE, before=garbled),
    Situation(
        "a changed number in the record",
        audit=spoilt("record.json", lambda t: t.replace('"mean": 0.1', '"mean": 0.0', 1)),
    ),
    Situation("a changed report", audit=spoilt("summary.md", lambda t: t.replace("DISTILLABLE", "UNDISTILLABLE"))),
    Situation("an unreadable record", audit=garbled),
    Situation("a record of an earlier version", audit=ancient),
    Situation("no record", audit=lambda folder: None),
    Situation("an unknown key", "tolerence = 0.5\n"),
    Situation("a wrong type", 'max_age_days = "a month"\n'),
    Situation("a waiver without a reason", WAIVE.replace('reason = "answers are metered"\n', ""), shown="[[waive]]"),
    Situation("a waiver without a last day", WAIVE.replace("until = 2026-06-30\n", ""), shown="[[waive]]"),
    Situation("no TOML", "surfaces = probs\n"),
    Situation("no policy file", argv=("gate", "audit", "--policy", "nowhere.toml")),
    Situation(
        "`audit run` of surfaces that the policy does not settle for: nothing is trained",
        'surfaces = ["label"]\n',
        argv=("run", "--teacher", "demo", "--surface", "probs", "--policy", "policy.toml"),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What the command did."""

    code: int
    out: str
    err: str

    @property
    def decided(self) -> str:
        """Name the rules that did not simply pass, or what stopped the command."""
        if not self.out:
            return "refused"
        found = json.loads(self.out)["findings"]
        return ", ".join(f"{f['rule']}: {f['outcome']}" for f in found if f["outcome"] != "pass") or "all pass"


@cache
def drawn(record: bytes) -> str:
    """Draw the page of a record, once: figures take most of the time."""
    return html.render(Record.model_validate_json(record))


def page(record: Record, policy: PolicyOutcome | None) -> str:
    """Return the page of a record, which is drawn anew where a policy stands on it."""
    return drawn(dumped(record)) if policy is None else html.render(record, policy)


def outcome(situation: Situation, folder: Path) -> Outcome:
    """Really run the command; pages are drawn once for each record."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "html", SimpleNamespace(render=page))
        return _outcome(situation, folder)


def _outcome(situation: Situation, folder: Path) -> Outcome:
    with registered():
        return _ran(situation, folder)


def _ran(situation: Situation, folder: Path) -> Outcome:
    place = folder / "audit"
    if isinstance(situation.audit, str):
        written(RECORDS[situation.audit](), place)
    else:
        situation.audit(place)
    if situation.before is not None:
        situation.before(folder / "before")
    (folder / "policy.toml").write_text(f"version = 1\n{situation.policy}")
    argv = situation.argv or ("gate", "audit", "--policy", "policy.toml", "--json")
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr("audit.policy.gate.today", lambda: TODAY)
        patch.setattr(sys, "argv", ["audit", *argv])
        code = cli._main()
    return Outcome(code, out.getvalue(), err.getvalue())


def rows(run: Callable[[Situation], Outcome]) -> Iterator[str]:
    """Write the table."""
    yield "| the audit | the policy says | exit code | findings |"
    yield "|---|---|---|---|"
    for situation in SITUATIONS:
        done = run(situation)
        said = situation.shown or ", ".join(line for line in situation.policy.splitlines() if line[:6] != "record")
        yield f"| {situation.told} | {f'`{said}`' if said else ''} | {done.code} | {done.decided} |"


def in_a_folder(situation: Situation) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return outcome(situation, Path(folder))


if __name__ == "__main__":
    print("\n".join(rows(in_a_folder)))
