"""Check that an audit's name is the digest of its question, if the record holds the whole question."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations
from typing import Any

from attacks.sources import statements
from audit.analysis.derive import whole
from audit.finished.design import Disagreement
from audit.plan.question import VERSION, of_audit, of_question
from reports.record import Parameters, Record

PRESETS = 8  # at most, attacks with a single setting for which both cases (preset or not) are tried


def identity(record: Record) -> Iterator[Disagreement]:
    """Check that the name of an audit of a whole suite follows from its question."""
    found = names(record) if whole(record) else ()
    if found and record.audit not in found:
        yield Disagreement("audit", record.audit, found[0])


def names(record: Record) -> tuple[str, ...]:
    """Return the names that an audit can have, likeliest first; none if the record does not hold the whole question."""
    parts = question(record)
    if parts is None:
        return ()
    return tuple(of_audit(of_question(parts | more), record.look.seeds) for more in _unsaid(record))


def question(record: Record) -> dict[str, Any] | None:
    """Return the parts of the question; None where a part cannot be read from any student."""
    planned = [trial.planned for trial in record.trials if trial.planned is not None]
    asked = [trial.planned for trial in record.trials if trial.planned is not None and trial.teacher == "audited"]
    surrogates = [plan.surrogate for plan in planned if plan.surrogate is not None]
    attacks = versions(record)
    if not asked or not surrogates or attacks is None:
        return None
    settings, task = record.settings, record.task
    return {
        "teacher": asked[0].fingerprint,
        "surface": settings.surface,
        "task": task.digest,
        "pool": task.pool_digest,
        "surrogate": surrogates[0],
        "suite": record.suite.digest,
        "attacks": attacks,
        "students": settings.student.split(","),
        "budget": settings.budget,
        "dropped": settings.dropped,
        "device": settings.device,
    }


def versions(record: Record) -> dict[str, tuple[int, str]] | None:
    """Return the version and origin of every attack; None if one has no students and is not built in."""
    told = {trial.name: trial.planned.version for trial in record.trials if trial.planned is not None}
    found = {}
    for name in dict.fromkeys(row.attack for row in record.comparisons):
        if name in told:
            number, _, origin = told[name].partition(" ")
            found[name] = (int(number), origin)
        elif name in statements():
            found[name] = (statements()[name].version, "")
        else:
            return None
    return found


def _unsaid(record: Record) -> Iterator[dict[str, Any]]:
    """Yield guesses of what a record does not state: the protocol version, and which single settings were presets."""
    alone: dict[str, Parameters] = {row.attack: row.parameters for row in record.comparisons if row.tuned_over == 1}
    names = list(alone)[:PRESETS]
    for chosen in chain.from_iterable(combinations(names, n) for n in range(len(names) + 1)):
        for version in range(VERSION, 0, -1):
            yield {"protocol": version, "presets": {name: alone[name] for name in chosen}}
