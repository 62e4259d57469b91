"""Check that a record's query ledger matches what its students were charged and what the auditor queried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from attacks.sources import statements
from audit.finished.design import Disagreement, unequal
from reports.record import UNSTATED, LedgerRow, Record, purpose_of
from teachers.kinds import offers
from teachers.targets import questions

SHARED, AUDITOR = "shared", "auditor"


def queries(record: Record) -> Iterator[Disagreement]:
    """Check every row of the ledger, and the total number of answers."""
    yield from charged(record)
    yield from asked(record)
    yield from sent(record)
    yield from answers(record)
    yield from asked_again(record)


def charged(record: Record) -> Iterator[Disagreement]:
    """Check that the ledger charges what the students were charged, each once."""
    spent: Counter[tuple[str, str]] = Counter()
    for trial in record.trials:
        if trial.teacher is not None:
            name, gradients = trial.cell.technique, trial.gradient_queries
            spent[name, purpose_of(trial.role, trial.teacher)] += trial.queries - gradients
            if gradients:
                spent[name, purpose_of(trial.role, trial.teacher, True)] += gradients
    rows = [(row.attack, row.purpose) for row in _attacks(record)]
    told = {(row.attack, row.purpose): row.charged for row in _attacks(record)}
    for key in sorted(spent.keys() | told.keys()):
        yield from unequal(f"ledger, {' '.join(key)}", told.get(key), spent.get(key))
    yield from unequal("ledger, rows of attacks", rows, sorted(spent))


def asked(record: Record) -> Iterator[Disagreement]:
    """Check the auditor's own queries."""
    task, found = record.task, {row.purpose: row.sent for row in record.ledger if row.attack == AUDITOR}
    teachers = 1 + record.second
    # A remote teacher's answers for all validation images are stored already, and are not queried again.
    kept = ("validation", task.validation) if record.teacher.network_parameters is None else None
    sizes = [(pool.name, pool.labels.shape[0]) for pool in record.cmi]
    due = {"evaluate": teachers * (task.validation + task.test)}
    if found.get("identify"):  # queries that found out how to use a file that does not state it
        due["identify"] = found["identify"]
    due["cmi"] = sum(size for pool, size in sizes if (pool, size) != kept)
    due["probe"] = record.probe.queries
    if record.probe.again is not None:
        due["probe again"] = record.probe.again.queries
    rows = [row for row in record.ledger if row.attack in (SHARED, AUDITOR)]
    names = [(SHARED, "all", 0), *((AUDITOR, purpose, 0) for purpose in due)]
    yield from unequal("ledger, rows of the auditor", [(r.attack, r.purpose, r.charged) for r in rows], names)
    yield from unequal("ledger, sent for the auditor", found, due)


def sent(record: Record) -> Iterator[Disagreement]:
    """Check that no more answers were sent than charged, and at least those that are queried before training."""
    for row in _attacks(record):
        if row.sent > row.charged:
            yield Disagreement(f"ledger, {row.attack} {row.purpose}", f"{row.sent:,} sent", f"{row.charged:,} charged")
    least = ahead(record, "audited") + (ahead(record, "ordinary") if record.second else 0)
    if (shared := _shared(record)) < least:
        yield Disagreement("ledger, shared", f"{shared:,} sent", f"at least {least:,}")
    if shared > (most := least + sum(row.charged for row in record.ledger)) and not record.suite.plugins:
        yield Disagreement("ledger, shared", f"{shared:,} sent", f"at most {most:,}")


def answers(record: Record) -> Iterator[Disagreement]:
    """Check that the audited teacher's number of answers matches the ledger."""
    teachers = 1 + record.second
    auditor = {row.purpose: row.sent for row in record.ledger if row.attack == AUDITOR}
    own = sum(auditor.values()) - auditor.get("evaluate", 0) + auditor.get("evaluate", 0) // teachers
    own += sum(row.sent for row in _attacks(record) if "audited teacher" in row.purpose)
    shared = _shared(record)
    least = shared if teachers == 1 else ahead(record, "audited")
    most = shared if teachers == 1 else shared - ahead(record, "ordinary")
    if not own + least <= record.distinct_answers <= own + most:
        yield Disagreement("distinct_answers", f"{record.distinct_answers}", f"{own + least:,} to {own + most:,}")


def ahead(record: Record, teacher: str) -> int:
    """Return the least number of views that a teacher is queried for before attacks on original data train."""
    surface = record.settings.surface
    shown = surface if teacher == "audited" or offers(surface, "gradients") else "probs"
    said = [statements()[row.attack] for row in record.comparisons if row.attack in statements()]
    kinds = {s.views for s in said if s.holds == "original" and offers(shown, s.needs) and s.views}
    images, views = record.task.pool_images, int(record.suite.recipe.get("views") or 0)
    return images * sum(questions.declared(kinds, views, images, record.settings.budget).values())


def asked_again(record: Record) -> Iterator[Disagreement]:
    """Check that the teacher was asked again after training, about as many images as there are to ask about."""
    if (found := record.probe.again) is None:
        if record.design > UNSTATED and not record.planned:
            yield Disagreement("probe.again", "nothing", "a second probe, after training")
        return
    views = found.views.shape[0]
    yield from unequal("probe.again.queries", found.queries, found.validation.shape[0] + 2 * views)
    if not record.suite.plugins:  # which views a plug-in asks about, no record says
        yield from unequal("probe.again.views", views, len(questions.spread(ahead(record, "audited"))))


def _attacks(record: Record) -> list[LedgerRow]:
    return [row for row in record.ledger if row.attack not in (SHARED, AUDITOR)]


def _shared(record: Record) -> int:
    return sum(row.sent for row in record.ledger if row.attack == SHARED)
