"""Compare records: whether they ask the same question, which teacher gives away least, and by how much. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from audit.analysis.derive import results
from audit.plan.question import of_groups
from audit.statistics.compare import differing, holm
from audit.statistics.verdict import usable
from reports import settings
from reports.leaderboard.board import Difference, Entry, Leaderboard, Line
from reports.record import Comparison, Record
from reports.wording import strongest
from teachers.errors import UsageError

SHOWN = 12  # digits of a digest that are shown


class NamedRecord(NamedTuple):
    """A record, and the path where it was found."""

    place: str
    record: Record


def side_by_side(given: Sequence[NamedRecord]) -> Leaderboard:
    """Compare records, and rank them from the smallest to the largest margin.

    Raises UsageError where there are fewer than two, one is given twice, or two do not ask the same question.
    """
    refuse(given)
    records = [one.record for one in given]
    called = names(records)
    ranked = sorted(zip(called, records, strict=True), key=lambda named: _largest(named[1]))
    before = [None, *(record for _, record in ranked[:-1])]
    places = ranks([record for _, record in ranked])
    return Leaderboard(
        question=tuple(question(records[0]).items()),
        delta=records[0].verdict.delta,
        alpha=records[0].verdict.alpha,
        entries=tuple(entry(*named, last, rank) for named, last, rank in zip(ranked, before, places, strict=True)),
        lines=lines([record for _, record in ranked]),
        pair=(called[0], called[1]) if len(given) == 2 else None,
        differences=differences(records[0], records[1]) if len(given) == 2 else (),
    )


def refuse(given: Sequence[NamedRecord]) -> None:
    """Raise UsageError where records cannot be compared; it names the first difference and both values."""
    if len(given) < 2:
        raise UsageError("a comparison needs two audits or more; give the folders that `audit run` wrote")
    if pair := twice(given):
        (other, _), (place, record) = pair
        raise UsageError(f"{other} and {place} are the same audit ({record.audit[:SHOWN]}); give it once")
    base, first = given[0]
    for place, record in given[1:]:
        differs = difference(first, record)
        if differs is not None:
            what, mine, theirs = differs
            raise UsageError(
                f"{base} and {place} cannot be compared: {what} is {mine} in the first and {theirs} in the second; "
                "audit both in the same way"
            )


def twice(given: Iterable[NamedRecord]) -> tuple[NamedRecord, NamedRecord] | None:
    """Return the first two records of the same audit; None where there are none."""
    seen: dict[str, NamedRecord] = {}
    for one in given:
        if one.record.audit in seen:
            return seen[one.record.audit], one
        seen[one.record.audit] = one
    return None


def difference(one: Record, other: Record) -> tuple[str, str, str] | None:
    """Return the first difference between two audits' questions, and both values; None if they can be compared."""
    mine, theirs = question(one), question(other)
    for what in mine:
        if mine[what] != theirs[what]:
            return what, mine[what], theirs[what]
    asked, others = versions(one), versions(other)
    for attack in dict.fromkeys([*asked, *others]):
        if attack not in asked or attack not in others:
            here, there = ("requested" if attack in told else "not requested" for told in (asked, others))
            return f"attack {attack}", here, there
        if asked[attack] and others[attack] and asked[attack] != others[attack]:
            return f"attack {attack}", asked[attack], others[attack]
    return None


def question(record: Record) -> dict[str, str]:
    """Return everything that must be equal for margins to be comparable, as text."""
    suite, task = record.suite, record.task
    engines = sorted({trial.cell.engine for trial in record.trials})
    return {
        "suite": f"{suite.name} ({suite.digest[:SHOWN]})",
        "design version": str(record.design),
        "tolerance": f"{record.settings.delta:g} points",
        "task": f"{task.name} ({task.digest[:SHOWN]})",
        "groups of test images": _grouped(record),
        "attacker's data": f"{task.pool_images} images ({task.pool_digest[:SHOWN]})",
        "training engine": ", ".join(map(str, engines)) or "unknown",
        **{name.replace("_", "-"): _shown(value) for name, value in settings.question(record.settings).items()},
    }


def _grouped(record: Record) -> str:
    """Return the groups of test images as text."""
    groups = record.groups
    return "none" if groups is None else f"{groups.max() + 1:,} ({of_groups(groups)[:SHOWN]})"


def _shown(value: Any) -> str:
    """Return a setting as text."""
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return value or "none"


def versions(record: Record) -> dict[str, str]:
    """Return the requested attacks and the version of each; empty where no student states it."""
    told: dict[str, set[str]] = {row.attack: set() for row in record.comparisons}
    for trial in record.trials:
        if trial.kind == "attack" and trial.cell.technique in told:
            told[trial.cell.technique].add(trial.cell.version)
    return {name: f"version {', '.join(sorted(found))}" if found else "" for name, found in told.items()}


def names(records: Sequence[Record]) -> list[str]:
    """Return a unique name for every record: the teacher's name, with a digest where that is not enough."""
    ways: tuple[Callable[[Record], str], ...] = (
        lambda r: r.teacher.name,
        lambda r: f"{r.teacher.name} ({r.teacher.sha256[:8]})",
        lambda r: f"{r.teacher.name} (audit {r.audit[:8]})",
        lambda r: f"{r.teacher.name} (audit {r.audit})",
    )
    for way in ways:
        found = [way(record) for record in records]
        if len(set(found)) == len(found):
            break
    return found


def ranks(ranked: Sequence[Record]) -> list[int]:
    """Return the rank of each record, from 1; `ranked`: records by their largest margin, the smallest first.

    A record begins a new rank where its largest margin is surely above that of the first record of the rank before it:
    the two-sided 95 % interval of the difference lies above 0.
    """
    found: list[int] = []
    first: Record | None = None
    for place, record in enumerate(ranked, start=1):
        if first is None or _apart(record, first):
            first, rank = record, place
        found.append(rank)
    return found


def _apart(record: Record, first: Record) -> bool:
    """Whether a record's largest margin is surely above another's, or is missing where the other's is not."""
    best, other = strongest(record), strongest(first)
    if best is None or other is None:
        return other is not None
    gap = contrast(record, best, first, other)
    return gap is not None and gap.reliable and gap.low > 0


def entry(name: str, record: Record, before: Record | None, rank: int) -> Entry:
    """Return a record's row on the leaderboard; `before`: the record one place above."""
    best, teacher = strongest(record), record.teacher
    held_out = next((pool for pool in record.cmi if pool.name == "validation" and pool.cmi), None)
    top = None if held_out is None else int(np.argmax(held_out.cmi))
    judged = [row for row in record.comparisons if row.status == "judged"]
    found = Entry(
        name=name,
        rank=rank,
        teacher=teacher.name,
        sha256=teacher.sha256,
        method=teacher.method,
        audit=record.audit,
        created=record.times.created,
        word=record.verdict.word,
        accuracy=teacher.test_accuracy,
        accuracy_low=teacher.test_low,
        accuracy_high=teacher.test_high,
        distinct_answers=record.distinct_answers,
        price=record.settings.price,
        cmi=None if held_out is None or top is None else held_out.cmi[top],
        cmi_temperature=None if held_out is None or top is None else held_out.temperatures[top],
        judged=len(judged),
        passing=sum(row.passes for row in judged),
        missing=tuple(f"{record.name_of(row)} ({row.status})" for row in record.comparisons if row.status != "judged"),
        flags=tuple(flag.id for flag in record.flags if flag.caps != "nothing"),
    )
    if best is None:
        return found
    theirs = None if before is None else strongest(before)
    above = None if before is None or theirs is None else contrast(record, best, before, theirs)
    own = {"strongest": record.name_of(best), "margin": best.margin, "queries": best.knockoff.queries}
    corrected = {"corrected_lower": best.corrected_lower, "p_holm": best.p_holm}
    return found.model_copy(update={**own, **corrected, "above": above})


def lines(records: Sequence[Record]) -> tuple[Line, ...]:
    """Return every attack's margin in every record; the attack with the largest margin comes first."""
    rows = [{record.name_of(row): row for row in record.comparisons} for record in records]
    found = [
        Line(
            attack=name,
            margins=tuple(row[name].margin if name in row else None for row in rows),
            statuses=tuple(row[name].status if name in row else "" for row in rows),
        )
        for name in dict.fromkeys(name for row in rows for name in row)
    ]
    return tuple(sorted(found, key=lambda line: max((m.mean for m in line.margins if m), default=-9.0), reverse=True))


def differences(first: Record, second: Record) -> tuple[Difference, ...]:
    """Return the second record's margin minus the first's for every attack, with Holm-adjusted p-values."""
    theirs = {first.name_of(row): row for row in first.comparisons}
    pairs = [(row, theirs[second.name_of(row)]) for row in second.comparisons if second.name_of(row) in theirs]
    found = [d for mine, other in pairs if (d := contrast(second, mine, first, other)) is not None]
    adjusted = holm([d.p if d.reliable else 1.0 for d in found])
    corrected = [d.model_copy(update={"p_holm": p}) for d, p in zip(found, adjusted, strict=True)]
    return tuple(sorted(corrected, key=lambda d: d.mean, reverse=True))


def contrast(one: Record, mine: Comparison, other: Record, theirs: Comparison) -> Difference | None:
    """Return one record's margin minus another's; None where one of the rows has no students."""
    if not (mine.knockoff.students and theirs.knockoff.students):
        return None
    facts = results(one)
    found = differing(facts.both(mine), results(other).both(theirs), facts.groups)
    low, high = (float(np.clip(end, -2, 2)) for end in found.interval(0.95))
    named, others = one.name_of(mine), other.name_of(theirs)
    return Difference(
        attack=named,
        other="" if named == others else others,
        mean=found.mean,
        se=min(2.0, found.se),
        low=low,
        high=high,
        p=found.p_equal(),
        seeds=(len(mine.knockoff.students), len(theirs.knockoff.students)),
        images=found.images,
        discordant=found.discordant,
        reliable=usable(found),
    )


def _largest(record: Record) -> float:
    """Return the largest margin; a value above every margin where nothing was judged."""
    best = strongest(record)
    return 9.0 if best is None or best.margin is None else best.margin.mean
