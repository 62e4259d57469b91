"""Check that an audit has the design that it names: its suite, its looks, and the students that its rows compare."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from audit.analysis.derive import whole
from audit.plan.design import EARLIER, VERSION, truths
from audit.plan.suite import NULL_NAME, Suite, named
from audit.statistics.sequential import HORIZON, schedule
from audit.statistics.verdict import ALPHA
from reports.record import PLANNED, Comparison, Record, Trial

TOLERANCE = 1e-6  # relative and absolute tolerance of numbers, because processors round differently


class Disagreement(NamedTuple):
    """A stored value that contradicts the rest of the record: where it is, what is stored, what was expected."""

    where: str
    stored: str
    found: str

    def __str__(self) -> str:
        return f"{self.where}: stored {self.stored}, expected {self.found}"


def design(record: Record) -> Iterator[Disagreement]:
    """Check that nothing that decides the verdict was left out, added or exchanged."""
    yield from stated(record)
    yield from frozen(record)
    yield from rows(record)
    yield from partial(record)
    yield from looks(record)


def stated(record: Record) -> Iterator[Disagreement]:
    """Check that the design has a version that is known."""
    if not truths(record.design):
        known = " or ".join(map(str, sorted({*EARLIER, VERSION})))
        yield Disagreement("design", str(record.design), f"{known}, which this version of the tool knows")


def frozen(record: Record) -> Iterator[Disagreement]:
    """Check that the suite matches the known suite of that name, if there is one."""
    ran = record.suite
    named = known(record)
    if named is not None:
        for name in ("digest", "attacks", "controls", "settings", "tuning_seeds", "finalists"):
            yield from unequal(f"suite.{name} of {ran.name}", getattr(ran, name), getattr(named, name))
        for name in ("batch", "lr"):
            yield from unequal(f"suite.recipe.{name} of {ran.name}", ran.recipe[name], getattr(named, name))
        steps = named.steps_for(record.task.pool_images)
        yield from unequal(f"suite.recipe.steps of {ran.name}", ran.recipe["steps"], steps)
    yield from unequal("settings.seeds", record.settings.seeds, ran.seeds)
    if not 2 <= ran.seeds <= HORIZON:
        yield Disagreement("suite.seeds", str(ran.seeds), f"at least 2, at most {HORIZON}")


def known(record: Record) -> Suite | None:
    """Return the suite with the name that a record gives, if this version has one."""
    return named(record.suite.name)


def rows(record: Record) -> Iterator[Disagreement]:
    """Check that every attack and every baseline has exactly one row for every student."""
    students, suite = record.settings.students, record.suite
    attacks = {row.attack for row in record.comparisons}
    asking = (trial for trial in record.trials if trial.kind == "attack" and trial.teacher == "audited")
    trained = {trial.cell.technique for trial in asking}
    asked = attacks | trained | (set(suite.attacks) if suite.complete else set())
    yield from _uneven("comparisons", record.comparisons, asked, students)
    beside = () if record.planned else suite.controls
    yield from _uneven("controls", record.controls, {*beside, NULL_NAME}, students)
    yield from unequal("suite.complete", suite.complete, whole(record))


def partial(record: Record) -> Iterator[Disagreement]:
    """Check that attacks have not run only where the word is sure without them, and that no other was passed over."""
    if not record.planned:
        yield from unequal("ordinary", record.ordinary is None, False)
        return
    yield from unequal("ordinary", record.ordinary is None, True)
    yield from unequal("verdict of an audit that has not run all attacks", record.verdict.word, "DISTILLABLE")
    for row in record.planned:
        yield from unequal(f"reason of {record.name_of(row)}", row.reason, PLANNED)
    left, suite = {row.attack for row in record.planned}, known(record)
    if suite is not None:
        offered = {row.attack for row in record.comparisons if row.status != "not applicable"}
        groups = suite.groups([row.attack for row in record.comparisons])
        due = next((end for end in range(1, len(groups)) if left == offered & set(chain(*groups[end:]))), None)
        if due is None:
            yield Disagreement("planned attacks", ", ".join(sorted(left)), "the groups of the suite after some others")


def _uneven(
    where: str, found: Iterable[Comparison], names: Iterable[str], students: Iterable[str]
) -> Iterator[Disagreement]:
    wanted = sorted((name, student) for name in names for student in students)
    held = sorted((row.attack, row.student) for row in found)
    for pair in sorted({*wanted, *held}):
        if held.count(pair) != wanted.count(pair):
            yield Disagreement(
                f"{where}, {' on '.join(pair)}", f"{held.count(pair)} rows", f"{wanted.count(pair)} rows"
            )


def looks(record: Record) -> Iterator[Disagreement]:
    """Check that the error was spent as audits spend it: over all seeds, and at every look that was due."""
    look, most = record.look, record.suite.seeds
    named = known(record)
    yield from unequal("look.horizon", look.horizon, HORIZON)
    yield from unequal("look.alpha", look.alpha, min(look.alpha, ALPHA) if look.alpha > 0 else ALPHA)
    yield from unequal("look.number", look.number, max((len(row.looks) for row in record.comparisons), default=0))
    first = look.seeds[:1] if named is None else (min(named.seeds, most),)
    seeds = tuple(sorted({*look.seeds, *(n for one in first for n in schedule(one, most))}))
    yield from unequal("look.seeds", look.seeds, tuple(n for n in seeds if n <= most))
    for row in record.comparisons:
        name, number = record.name_of(row), len(row.knockoff.students)
        yield from unequal(f"looks of {name}", row.looks, _due(row, seeds, named, most)[: len(row.looks)])
        yield from unequal(f"number of students of {name}", number, max(row.looks, default=0))


def _due(row: Comparison, seeds: tuple[int, ...], named: Suite | None, most: int) -> tuple[int, ...]:
    """Return the looks that were due for an attack; without original images it starts with fewer seeds."""
    if row.holds == "original":
        return seeds
    if named is None:  # the number of first seeds is unknown
        return tuple(sorted(set(row.looks)))
    must = schedule(min(named.query_seeds, named.seeds, most), most)
    return tuple(sorted({*must, *(n for n in row.looks if n in seeds)}))  # looks of earlier audits may lie between


def student(trial: Trial) -> str:
    """Name a student in a disagreement."""
    return f"student {trial.cell.technique}, seed {trial.cell.seed}"


def unequal(where: str, stored: Any, found: Any) -> Iterator[Disagreement]:
    """Yield a disagreement if two values differ."""
    if stored != found:
        yield Disagreement(where, repr(stored), repr(found))


def differences(where: str, stored: Any, found: Any) -> Iterator[Disagreement]:
    """Compare plain data; numbers may differ within the tolerance."""
    if isinstance(stored, dict) and isinstance(found, dict) and stored.keys() == found.keys():
        for name in stored:
            yield from differences(f"{where}.{name}", stored[name], found[name])
    elif isinstance(stored, list | tuple) and isinstance(found, list | tuple) and len(stored) == len(found):
        for i, (a, b) in enumerate(zip(stored, found, strict=True)):
            yield from differences(f"{where}[{i}]", a, b)
    elif isinstance(stored, float) and isinstance(found, float):
        if not (
            math.isclose(stored, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            or (math.isnan(stored) and math.isnan(found))
        ):
            yield Disagreement(where, repr(stored), repr(found))
    elif stored != found:
        yield Disagreement(where, repr(stored), repr(found))
