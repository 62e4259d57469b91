"""The answer in ten seconds: what asking the teacher is worth, in one sentence with three accuracies."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from reports.record import Comparison, Record
from reports.wording import carrier, duration, percent, points

_SEEDS: Final = re.compile(r"about (\d+) seeds")  # in what would settle a verdict


class Mark(NamedTuple):
    """One accuracy on the bar: without the teacher, of the copy, or of the teacher."""

    kind: str
    label: str
    share: float


def marks(record: Record) -> tuple[Mark, ...]:
    """Return the accuracies without the teacher, of the copy, and of the teacher; without a judged attack, the last."""
    best, teacher = carrier(record), Mark("teacher", "the teacher itself", record.teacher.test_accuracy)
    if best is None or best.knockoff.accuracy is None or best.control.accuracy is None:
        return (teacher,)
    without = Mark("without", "without the teacher", best.control.accuracy)
    copy = Mark("copy", f"with its answers ({record.name_of(best)})", best.knockoff.accuracy)
    return without, copy, teacher


def sentence(record: Record) -> str:
    """Say what asking the teacher is worth, in points and in three accuracies."""
    name, best = record.teacher.name, carrier(record)
    if best is None or best.margin is None:
        return f"No attack on {name} could be judged."
    reached = (
        f"a copy reaches {percent(best.knockoff.accuracy, 1)} with its answers and "
        f"{percent(best.control.accuracy, 1)} without; {name} itself has {percent(record.teacher.test_accuracy, 1)}."
    )
    if record.verdict.word == "DISTILLABLE":
        return f"Asking {name} is worth {points(best.margin.mean, 1, sign=False)} points: {reached}"
    if record.verdict.word == "UNDISTILLABLE":
        return f"Asking {name} is worth less than {100 * record.verdict.delta:g} points: {reached}"
    return f"{_undecided(record)} So far {reached}"


def following(record: Record) -> str:
    """Say what to do next about an INCONCLUSIVE word, and how long it may take; empty for the other words."""
    verdict = record.verdict
    if verdict.word != "INCONCLUSIVE" or not verdict.settle:
        return ""
    took = _time(record)
    more = "; `audit plan` with it says what that takes, and what it can see" if "--effort" in verdict.settle else ""
    return f"Next: {verdict.settle.rstrip('.')}{took and f', {took}'}{more}."


def _undecided(record: Record) -> str:
    """Say in a few words why there is no decisive word."""
    verdict = record.verdict
    best = carrier(record)
    gains = f"{record.name_of(best)} gains" if best is not None else None
    for reason in verdict.reasons:  # a gain that is seen, and why it does not count
        if gains is not None and reason.startswith(gains) and not _stopped(record):
            return f"Not decided: {reason.rstrip('.')}."
    limits = [flag for flag in record.flags if flag.caps != "nothing"]
    if limits:
        more = f" (and {len(limits) - 1} more)" if len(limits) > 1 else ""
        return f"Not decided: {limits[0].found.rstrip('.')}{more}."
    if _SEEDS.search(verdict.settle):
        return "Too few repetitions to say."
    return f"Not decided: {verdict.reasons[0].rstrip('.')}." if verdict.reasons else "Not decided."


def _stopped(record: Record) -> bool:
    """Whether a flag rules out both words."""
    return any(flag.caps == "inconclusive" for flag in record.flags)


def _time(record: Record) -> str:
    """Estimate how long the seeds that would settle the word take, from those so far; empty where nobody can tell."""
    asked = _SEEDS.search(record.verdict.settle)
    trials = {trial.key: trial for trial in record.trials}
    rows = [c for c in record.comparisons if c.margin is not None and c.margin.upper >= record.verdict.delta]
    done = max((len(row.knockoff.students) for row in rows), default=0)
    spent = sum(trial.seconds for trial in record.trials)
    if asked is None or not done or record.times.reused or not record.times.wall_seconds or not spent:
        return ""
    used = {key for row in rows for key in _students(row)}
    one = sum(trials[key].seconds for key in used if key in trials) / done
    at_once = max(1.0, spent / record.times.wall_seconds)
    more = one * max(1, int(asked[1]) - done) / at_once
    return f"about {duration(0.7 * more)} to {duration(1.4 * more)} on the machine of this audit"


def _students(row: Comparison) -> tuple[str, ...]:
    """Return the judged students of an attack and of its controls."""
    others = (key for found in row.margins if found.over != "home-made" for key in found.students)
    return (*row.knockoff.students, *row.control.students, *others)
