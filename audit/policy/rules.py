"""Apply each rule of a policy to the records of an audit, one record for each surface. Pure functions.

docs/gate.md states the rules.
"""

from __future__ import annotations

import zlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Literal, NamedTuple

from audit.analysis.derive import doubts, finding, results, whole
from audit.finished.verify import measured
from audit.plan.question import of_groups
from audit.plan.suite import EARLIER, EFFORTS, named
from audit.policy.file import Baseline, Policy, PolicyFile
from audit.policy.regression import Change, changes, lost, unlike
from audit.statistics.verdict import Ruling, rule
from reports.record import Record
from reports.settings import TOLERANCE
from reports.wording import points, run_so_far
from teachers.errors import RefusedInput
from teachers.names import nearest

Outcome = Literal["pass", "warn", "fail", "separate", "nothing"]
TOLD = 3  # at most, attacks or reasons in one sentence


class RuleResult(NamedTuple):
    """The outcome of one rule."""

    rule: str
    outcome: Outcome
    sentence: str


def findings(
    records: Sequence[Record], file: PolicyFile, day: date, before: Sequence[Record] = ()
) -> Iterator[RuleResult]:
    """Apply a policy to verified records on a given day; `before`: the baseline's records.

    Raises UsageError where the policy names something unknown, or a baseline that cannot be compared.
    """
    refuse_unknown(file, records)
    policy = file.policy
    judged = [r for r in records if not policy.surfaces or r.settings.surface in policy.surfaces]
    yield from _surfaces(policy, records)
    # Every surface has its own record, which may come from another audit: check each, and report equal findings once.
    about = [found for r in judged for found in (*_suite(policy, r), *_checkpoint(policy, r), *_age(policy, r, day))]
    yield from dict.fromkeys(about)
    yield from _waivers(policy, records, day)
    for record in judged:
        surface = record.settings.surface
        waived = {w.attack for w in policy.waive if w.until >= day and w.surface in (None, surface)}
        rows = [row for row in record.comparisons if row.attack not in waived]
        for row in rows:
            if row.status == "failed":
                yield RuleResult("attacks", "fail", f"{_on(record)}: {record.name_of(row)} did not run: {row.reason}")
        if not any(row.status == "judged" for row in rows):
            yield RuleResult("verdict", "nothing", f"{_on(record)}: no attack was judged")
            continue
        word = _word(policy, record, waived)
        if policy.baseline is None:
            yield word
        else:
            yield word._replace(outcome="pass" if word.outcome == "pass" else "warn")
            yield from _regressions(file, policy.baseline, record, before, waived)


def refuse_unknown(file: PolicyFile, records: Sequence[Record]) -> None:
    """Raise UsageError where the policy names a suite or an attack that neither this version nor the records know."""
    policy = file.policy
    frozen = (*EFFORTS.values(), *EARLIER.values())
    suites = {suite.name for suite in frozen} | {record.suite.name for record in records}
    if policy.suite is not None and policy.suite.name not in suites:
        raise file.wrong(("suite", "name"), f'is "{policy.suite.name}"; {nearest(policy.suite.name, sorted(suites))}')
    known = {row.attack for record in records for row in record.comparisons}
    known |= {name for suite in frozen for name in suite.attacks}
    for number, waiver in enumerate(policy.waive):
        if waiver.attack not in known:
            from attacks.registry import attacks  # slow to import and rarely needed: suites have nearly all names

            if waiver.attack not in (every := attacks()):
                near = nearest(waiver.attack, every)
                raise file.wrong(("waive", number, "attack"), f'is "{waiver.attack}", which is not an attack; {near}')


def ruled(record: Record, waived: Container[str], delta: float) -> Ruling:
    """Compute the verdict again, without the waived attacks and with a tolerance of `delta`."""
    rows = tuple(row for row in record.comparisons if row.attack not in waived)
    stated = replace(record.settings, delta=100 * delta)  # flags follow it, too
    kept = record.model_copy(update={"comparisons": rows, "settings": stated})
    facts = results(kept)
    flags = doubts(facts, kept.comparisons, kept.controls)
    found = [finding(facts, row, facts.looks(row) if row.knockoff.students else None) for row in rows]
    return rule(found, flags, complete=whole(record), delta=delta)


def _suite(policy: Policy, record: Record) -> Iterator[RuleResult]:
    asked, ran = policy.suite, record.suite
    if asked is None:
        return
    known = named(ran.name)
    if ran.name != asked.name:
        yield RuleResult("suite", "fail", f"the audit ran {ran.name}, the policy asks for {asked.name}")
    elif known is None:
        yield RuleResult("suite", "fail", f"this version does not know the suite {ran.name}, so it cannot check it")
    elif known.digest != ran.digest:
        yield RuleResult(
            "suite", "fail", f"the audit's suite is named {ran.name} but differs from the suite of that name"
        )
    elif record.planned:
        yield RuleResult("suite", "warn", f"{ran.name}: {run_so_far(record)}")
    elif asked.complete and not whole(record):
        missing = sorted(set(known.attacks) - {row.attack for row in record.comparisons})
        lacks = f"without {_some(missing)}"
        yield RuleResult("suite", "fail", f"{ran.name} ran {lacks}; the policy asks for all of it (--attacks all)")
    else:
        yield RuleResult("suite", "pass", f"{ran.name} ran" + (" in full" if whole(record) else ""))


def _surfaces(policy: Policy, records: Sequence[Record]) -> Iterator[RuleResult]:
    audited = [record.settings.surface for record in records]
    for record in records[1:]:
        if _subject(record) != _subject(records[0]):
            yield RuleResult("surfaces", "fail", f"{_on(record)}: another teacher, task or suite than on {audited[0]}")
    for surface in policy.surfaces:
        if surface not in audited:
            near = nearest(surface, audited, otherwise="")
            way = f"{near} Else audit" if near else "audit"
            given = ",".join((*audited, surface))
            yield RuleResult("surfaces", "fail", f"{surface} was not audited; {way} it with --surface {given}")
    judged = [surface for surface in audited if surface in policy.surfaces]
    if judged:
        left = [surface for surface in audited if surface not in policy.surfaces]
        beside = f"; not judged: {', '.join(left)}" if left else ""
        yield RuleResult("surfaces", "pass", f"judged: {', '.join(judged)}{beside}")


def _subject(record: Record) -> tuple[str, ...]:
    return record.teacher.sha256, record.task.digest, record.suite.digest, of_groups(record.groups)


def _checkpoint(policy: Policy, record: Record) -> Iterator[RuleResult]:
    asked, has = policy.checkpoint, record.teacher.sha256
    if asked is not None:
        fits = asked.lower() == has
        sentence = f"{record.teacher.name} has the sha256 {has}" + ("" if fits else f", the policy asks for {asked}")
        yield RuleResult("checkpoint", "pass" if fits else "fail", sentence)


def _age(policy: Policy, record: Record, day: date) -> Iterator[RuleResult]:
    if policy.max_age_days is None:
        return
    made = record.times.created
    try:
        days = (day - datetime.fromisoformat(made).date()).days
    except ValueError:
        yield RuleResult("age", "fail", f"the audit has no date: {made!r}")
        return
    sentence = f"the audit of {made[:10]} is {days} days old, the policy allows {policy.max_age_days}"
    if days < 0:
        yield RuleResult("age", "fail", f"the audit is dated {made[:10]}, which is after today, {day}")
    else:
        yield RuleResult("age", "pass" if days <= policy.max_age_days else "fail", sentence)


def _waivers(policy: Policy, records: Sequence[Record], day: date) -> Iterator[RuleResult]:
    """Report every waiver: what it leaves out, why and until when."""
    for waiver in policy.waive:
        where = "" if waiver.surface is None else f" on {waiver.surface}"
        name = f"{waiver.attack}{where}"
        rows = [r for r in records if waiver.surface in (None, r.settings.surface)]
        if waiver.until < day:
            yield RuleResult("waiver", "fail", f"the waiver of {name} expired on {waiver.until}: renew it or remove it")
        elif not any(row.attack == waiver.attack for record in rows for row in record.comparisons):
            yield RuleResult("waiver", "warn", f"the waiver of {name} has no effect: the audit did not run this attack")
        else:
            yield RuleResult("waiver", "warn", f"{name} is waived until {waiver.until}: {waiver.reason}")


def _word(policy: Policy, record: Record, waived: Container[str]) -> RuleResult:
    delta = _tolerance(policy, record)
    ruling = ruled(record, waived, delta)
    without = [row.attack for row in record.comparisons if row.attack in waived]
    scope = f" without {_some(without)}" if without else ""
    scope += f" at a tolerance of {100 * delta:g} points" if delta != record.verdict.delta else ""
    sentence = f"{_on(record)}: {ruling.word}{scope}: {_some(ruling.reasons, '; ')}"
    if record.planned and ruling.word != "DISTILLABLE":
        return RuleResult("verdict", "fail", f"{sentence}. Audit again without --stop: the other attacks must run")
    if ruling.word == "INCONCLUSIVE":
        return RuleResult("verdict", policy.inconclusive, f"{sentence}. What would settle it: {ruling.settle}")
    return RuleResult("verdict", "pass" if ruling.word == "UNDISTILLABLE" else "fail", sentence)


def _regressions(
    file: PolicyFile, asked: Baseline, record: Record, before: Sequence[Record], waived: Container[str]
) -> Iterator[RuleResult]:
    surface, delta = record.settings.surface, _tolerance(file.policy, record)
    other = next((one for one in before if one.settings.surface == surface), None)
    if other is None:
        raise file.wrong(("baseline", "record"), f"names an audit without the surface {surface}; make one that has it")
    if (what := unlike(record, other)) is not None:
        raise file.wrong(("baseline", "record"), f"names an audit of another {what}; make one like the audit it judges")
    if (wrong := next(measured(other), None)) is not None:
        raise RefusedInput(f"the baseline {file.baseline} does not verify, see `audit verify`: {wrong}")
    try:
        found = changes(record, other, waived, delta)
    except (ValueError, KeyError, IndexError, AssertionError, zlib.error) as e:  # a damaged array or cell key
        raise RefusedInput(f"the baseline {file.baseline} cannot be unpacked; see `audit verify`: {e}") from e
    limit = f"{100 * delta:g} points"
    for change in found:
        if change.regressed:
            yield RuleResult("regression", "fail", f"{_on(record)}: the margin grew by more than {limit}: {change}")
    for name in lost(record, other, waived):
        told = "was judged in the baseline but not in this audit: audit it, or waive it"
        yield RuleResult("regression", "fail", f"{_on(record)}: {name} {told}")
    open_ = [change for change in found if not change.regressed and not change.held(delta)]
    if open_:
        told = _some([str(change) for change in sorted(open_, key=lambda c: -c.upper)], "; ")
        yield RuleResult("regression", asked.undecided, f"{_on(record)}: may have grown by more than {limit}: {told}")
    held = [change for change in found if change.held(delta)]
    if held:
        yield RuleResult("regression", "pass", f"{_on(record)}: {_held(held, len(found), limit)}")


def _held(held: Sequence[Change], judged: int, limit: str) -> str:
    top = max(held, key=lambda change: change.upper if not change.same else -1.0)
    bound = (
        "the students of both audits are the same" if top.same else f"the largest upper bound is {points(top.upper)}"
    )
    return f"{len(held)} of {judged} margins did not grow by {limit}: {bound}"


def _tolerance(policy: Policy, record: Record) -> float:
    """Return the policy's tolerance as a fraction, at most the record's own: a wide one must be stated twice."""
    return min(record.verdict.delta, (policy.tolerance or TOLERANCE) / 100)


def _on(record: Record) -> str:
    return f"surface {record.settings.surface}"


def _some(items: Sequence[str], between: str = ", ") -> str:
    more = f"{between}and {len(items) - TOLD} more" if len(items) > TOLD else ""
    return between.join(items[:TOLD]) + more
