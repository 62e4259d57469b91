"""Check that an audit's name is the digest of its question, if the record holds the whole question."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations

from attacks.sources import statements
from audit.analysis.derive import whole
from audit.finished.design import Disagreement
from audit.plan.question import Digests, of_audit, of_groups, question
from reports.record import UNSTATED, Parameters, Record

PRESETS = 8  # at most, attacks with a single setting for which both cases (preset or not) are tried


def identity(record: Record) -> Iterator[Disagreement]:
    """Check that the name of an audit of a whole suite follows from its question."""
    found = names(record) if whole(record) else ()
    if found and record.audit not in found:
        yield Disagreement("audit", record.audit, found[0])


def names(record: Record) -> tuple[str, ...]:
    """Return the names that an audit can have, likeliest first; none if the record does not hold the whole question."""
    found, attacks = digests(record), versions(record)
    if found is None or attacks is None:
        return ()
    known = range(UNSTATED, 0, -1) if record.design == UNSTATED else (record.design,)
    unsaid = ((presets, version) for presets in _presets(record) for version in known)
    asked, looked, alpha = record.settings, record.look.seeds, record.look.alpha
    return tuple(of_audit(question(asked, found, attacks, *more), looked, asked.delta, alpha) for more in unsaid)


def digests(record: Record) -> Digests | None:
    """Return the digests of the question; None where one cannot be read from any student."""
    asked = [trial.cell for trial in record.trials if trial.teacher == "audited"]
    surrogates = [trial.cell.surrogate for trial in record.trials if trial.cell.surrogate is not None]
    if not asked or not surrogates:
        return None
    task = record.task
    return Digests(
        str(asked[0].teacher),
        task.digest,
        task.pool_digest,
        surrogates[0],
        record.suite.digest,
        of_groups(record.groups),
    )


def versions(record: Record) -> dict[str, tuple[int, str]] | None:
    """Return the version and origin of every attack; None if one has no students and is not built in."""
    told = {trial.cell.technique: trial.cell.version for trial in record.trials}
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


def _presets(record: Record) -> Iterator[dict[str, Parameters]]:
    """Yield guesses of what a record does not state: which single settings were presets."""
    knockoffs = {row.attack: row.knockoff for row in record.comparisons}
    alone = {name: found.parameters for name, found in knockoffs.items() if found.tuned_over == 1}
    names = list(alone)[:PRESETS]
    for chosen in chain.from_iterable(combinations(names, n) for n in range(len(names) + 1)):
        yield {name: alone[name] for name in chosen}
