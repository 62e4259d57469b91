"""From the record of one budget's audit to what it says about that budget. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from audit.analysis.derive import RecordResults, finding, interval, results
from audit.statistics.verdict import Finding, bounds, planned, rule
from reports.limit.document import Outcome
from reports.record import Comparison, Flag, Record, Word
from teachers.proportions import majority

# Doubts about students that have the images: those without any are not held against them.
OF_STUDENTS: Final = ("control-at-ceiling", "weak-control", "erratic-control")
WORDS: Final[dict[Word, Outcome]] = {"DISTILLABLE": "gains", "UNDISTILLABLE": "safe", "INCONCLUSIVE": "open"}


def judged(record: Record, works: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields of a cell that follow from its audit, by the rules of the verdict at the audit's error rate.

    But for one: a gain that is sure and surely below the tolerance is no gain of the tolerance, and its budget is safe.

    The suite is whole where the record has all of its attacks that such an attacker can run: whoever asks has chosen
    them. `works`: attacks that were seen to work with more queries; with few, none passes its positive control.
    An attacker without original images has nothing without the teacher but the largest class: their gain is over that.
    """
    facts = results(record)
    rows = {record.name_of(row): row for row in record.comparisons}
    found = {name: _finding(facts, row) for name, row in rows.items()}
    known = [replace(f, passes=f.passes or rows[name].attack in works) for name, f in found.items()]
    flags = [
        flag for flag in record.flags if flag.id not in OF_STUDENTS or "original" in {r.holds for r in rows.values()}
    ]
    ruling = rule(known, flags, complete=True, delta=facts.delta, alpha=facts.alpha)
    asked = max(row.knockoff.queries for row in rows.values())
    outcome, why = WORDS[ruling.word], ruling.reasons[0]
    if safe(known, flags, facts.delta, facts.alpha):
        outcome, why = "safe", bounds([f for f in known if f.status == "judged"], facts.delta, facts.alpha)[0]
    told = dict[str, Any](outcome=outcome, why=why, queries=asked)
    gains = {name: f.looks for name, f in found.items() if f.looks is not None}
    if not gains:
        return told
    carried = outcome == "gains"  # then the attack that carries the word is told, else the largest gain
    best = min(gains, key=lambda name: ruling.p_holm.get(name, 1.0) if carried else -gains[name].last.mean)
    row, looks = rows[best], gains[best]
    without = row.control.accuracy if row.holds == "original" else majority(facts.labels[facts.judged])
    gain = interval(facts, looks.last, looks)
    return told | dict[str, Any](attack=best, gain=gain, copied=row.knockoff.accuracy, without=without)


def safe(findings: Sequence[Finding], flags: Sequence[Flag], delta: float, alpha: float) -> bool:
    """Whether no attack gains the tolerance: all were judged, one is known to work, and each is bounded below it."""
    judged = [f for f in findings if f.status == "judged"]
    left = any(f.status in ("failed", "planned") for f in findings) or any(flag.caps != "nothing" for flag in flags)
    bounded = (f.same or (f.usable and f.looks is not None and f.looks.upper(alpha) < delta) for f in judged)
    return not left and any(f.evidence for f in judged) and all(bounded)


def sure(record: Record) -> bool:
    """Whether an attack surely gains the tolerance, so that no other one needs to run."""
    facts = results(record)
    found = [_finding(facts, row) for row in record.comparisons]
    return any(f.usable and f.least(facts.alpha / planned(found)) > facts.delta for f in found)


def working(record: Record) -> set[str]:
    """Return the attacks that were seen to work: on the ordinary teacher, or on the audited one."""
    facts = results(record)
    rows = {record.name_of(row): row for row in record.comparisons}
    found = [_finding(facts, row) for row in rows.values()]
    p = rule(found, (), complete=False, delta=facts.delta, alpha=facts.alpha).p_holm
    return {row.attack for name, row in rows.items() if row.passes or p.get(name, 1.0) < facts.alpha}


def _finding(facts: RecordResults, row: Comparison) -> Finding:
    """Return what is known of an attack; without original images, its gain over naming the largest class always."""
    if not row.knockoff.students:
        return finding(facts, row, None)
    if row.holds == "original":
        return finding(facts, row, facts.looks(row))
    over = facts.over_largest(row.knockoff.students, row.looks, facts.record.look.horizon)
    return replace(finding(facts, row, over), rivals={}, same=False, mis_tuned=False)
