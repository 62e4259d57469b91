"""From the record of one budget's audit to what it says about that budget. Pure functions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from audit.analysis.derive import RecordResults, finding, interval, results
from audit.statistics.verdict import Finding, rule
from reports.limit.document import Outcome
from reports.record import Comparison, Record, Word
from teachers.proportions import majority

WORDS: Final[dict[Word, Outcome]] = {"DISTILLABLE": "gains", "UNDISTILLABLE": "safe", "INCONCLUSIVE": "open"}


def judged(record: Record, works: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields of a cell that follow from its audit, by the rules of the verdict at the audit's error rate.

    The suite is whole where the record has all of its attacks that such an attacker can run: whoever asks has chosen
    them. `works`: attacks that were seen to work with more queries; with few, none passes its positive control.
    An attacker without original images has nothing without the teacher but the largest class: their gain is over that.
    """
    facts = results(record)
    rows = {record.name_of(row): row for row in record.comparisons}
    found = [_finding(facts, row) for row in record.comparisons]
    known = [replace(f, passes=f.passes or f.attack.split(" on ")[0] in works) for f in found]
    ruling = rule(known, record.flags, complete=True, delta=facts.delta, alpha=facts.alpha)
    best = max((f for f in known if f.looks is not None), key=lambda f: f.looks.last.mean, default=None)  # type: ignore[union-attr]
    if ruling.word == "DISTILLABLE":  # the attack that carries the word
        least = min(ruling.p_holm.values())
        best = next(f for f in known if ruling.p_holm.get(f.attack) == least)
    asked = max((row.knockoff.queries for row in record.comparisons), default=0)
    told = dict[str, Any](outcome=WORDS[ruling.word], why="; ".join(ruling.reasons[:1]), queries=asked)
    if best is None or best.looks is None:
        return told
    row = rows[best.attack]
    without = row.control.accuracy if row.holds == "original" else majority(facts.labels[facts.judged])
    gain = interval(facts, best.looks.last, best.looks)
    return told | dict[str, Any](attack=best.attack, gain=gain, copied=row.knockoff.accuracy, without=without)


def working(record: Record) -> set[str]:
    """Return the attacks that were seen to work: on the ordinary teacher, or on the audited one."""
    facts = results(record)
    found = [_finding(facts, row) for row in record.comparisons]
    gaining = rule(found, (), complete=False, delta=facts.delta, alpha=facts.alpha).p_holm
    names = {record.name_of(row): row.attack for row in record.comparisons}
    return {row.attack for row in record.comparisons if row.passes} | {
        names[name] for name, p in gaining.items() if p < facts.alpha
    }


def _finding(facts: RecordResults, row: Comparison) -> Finding:
    """Return what is known of an attack; without original images, its gain over naming the largest class always."""
    if not row.knockoff.students:
        return finding(facts, row, None)
    if row.holds == "original":
        return finding(facts, row, facts.looks(row))
    over = facts.over_largest(row.knockoff.students, row.looks, facts.record.look.horizon)
    return replace(finding(facts, row, over), rivals={}, same=False, mis_tuned=False)
