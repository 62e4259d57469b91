"""`audit selftest`: audit teachers of known distillability, and check the verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from attacks.logits.soft_kd import SoftKD
from attacks.resistant.avg import AVG
from audit.analysis.teacher_flags import ANSWERS_CHANGED, NOISY_ANSWERS
from audit.pipeline import run
from audit.plan.names import listed
from audit.plan.options import Options
from audit.plan.suite import suite
from audit.statistics.compare import paired
from reports import terminal
from reports.record import Record, Word
from teachers.errors import UsageError
from teachers.names import (
    BORN_AGAIN,
    DEMO,
    FAINT_TRUTH,
    HALF_LEAK,
    HALF_SOFT,
    NOISY,
    PERMUTED,
    PLACEBO,
    REVERSED_ORDER,
    SIGN_FLIPS,
    STATEFUL,
    TRUTH,
)
from teachers.units import points

EFFORT = "selftest"
LEVEL = 0.01  # p-value below which one attack's students count as better than another's


class Pair(NamedTuple):
    """An attack, and the same attack on answers that are averaged over each class."""

    attack: str
    averaged: str


class Expectation(NamedTuple):
    """What an audit of a teacher must find; the teachers' code gives the reasons."""

    words: tuple[Word, ...]
    no_better: Pair | None = None
    flag: str = ""  # id of a flag that must be raised, too

    @property
    def told(self) -> str:
        """The expectation as text."""
        (left, *more) = (word for word in get_args(Word) if word not in self.words)
        told: list[str] = [self.words[0] if more else f"not {left}"]
        if self.no_better is not None:
            told.append(f"{self.no_better.attack} no better than {self.no_better.averaged}")
        if self.flag:
            told.append(f"flag {self.flag}")
        return "; ".join(told)


MUST, MUST_NOT = Expectation(("DISTILLABLE",)), Expectation(("UNDISTILLABLE", "INCONCLUSIVE"))
LEAKS = Expectation(("DISTILLABLE", "INCONCLUSIVE"))  # half of what a teacher knows is worth less than a twin gives
EXPECTED = {
    TRUTH: MUST_NOT,
    PLACEBO: MUST_NOT._replace(no_better=Pair(SoftKD.name, AVG.name)),
    DEMO: MUST,
    HALF_LEAK: LEAKS,
    NOISY: MUST._replace(flag=NOISY_ANSWERS.id),
    BORN_AGAIN: MUST_NOT,
    FAINT_TRUTH: MUST_NOT,
    REVERSED_ORDER: MUST,
    PERMUTED: MUST,
    SIGN_FLIPS: MUST,
    HALF_SOFT: LEAKS,
    STATEFUL: LEAKS._replace(flag=ANSWERS_CHANGED.id),
}


class TeacherCheck(NamedTuple):
    """A teacher, what its audit found, and whether this meets the expectation."""

    teacher: str
    expected: str
    found: Word
    why: tuple[str, ...]
    holds: bool


def selftest(
    only: str | None = None,
    *,
    jobs: int | None = None,
    cache: Path | None = None,
    out: Path | None = None,
    command: str = "",
) -> Iterator[TeacherCheck]:
    """Audit the teachers one after another; `only`: names of some of them, separated by commas.

    Raises UsageError for an unknown name.
    """
    for name in _named(only):
        options = asked(name, jobs=jobs, cache=cache, out=out)
        yield check(name, EXPECTED[name], run(options, command=command).record)


def asked(name: str, *, jobs: int | None = None, cache: Path | None = None, out: Path | None = None) -> Options:
    """Return what the self-test asks about a built-in teacher; `out`: where the folders of all of them lie."""
    return Options(
        teacher=name,
        attacks=",".join(suite(EFFORT).attacks),  # not `all`, because plug-ins' attacks are not tested here
        effort=EFFORT,
        jobs=jobs,
        cache=cache,
        out=out and out / name,
    )


def _named(only: str | None) -> Sequence[str]:
    names = tuple(EXPECTED) if only is None else listed(only)
    for name in names:
        if name not in EXPECTED:
            raise UsageError(f"--only: there is no teacher {name!r} to test with; there are {', '.join(EXPECTED)}")
    return names


def check(name: str, expected: Expectation, record: Record) -> TeacherCheck:
    """Compare what an audit found with what it must find.

    An unexpected flag that limits the verdict makes the check fail: a failed attack is not an attack survived. Where an
    attack gains, flags that only rule out UNDISTILLABLE are no doubt: answers that mislead other attacks raise one.
    """
    word, why = record.verdict.word, [*record.verdict.reasons]
    harmless = {"nothing", "undistillable"} if word == "DISTILLABLE" else {"nothing"}
    doubts = [flag.found for flag in record.flags if flag.caps not in harmless and flag.id != expected.flag]
    holds = word in expected.words and not doubts and expected.flag in {"", *(flag.id for flag in record.flags)}
    if expected.no_better is not None:
        no_better, sentence = _no_better(expected.no_better, record)
        holds, why = holds and no_better, [*why, sentence]
    return TeacherCheck(name, expected.told, word, tuple(dict.fromkeys([*why, *doubts])), holds)


def _no_better(pair: Pair, record: Record) -> tuple[bool, str]:
    """Check that an attack's students are no better than those on averaged answers, paired by seed and test image."""
    rows = {row.attack: row for row in record.comparisons}
    missing = [name for name in pair if name not in rows or not rows[name].knockoff.students]
    if missing:
        return False, f"{' and '.join(missing)} trained no students that can be compared"
    one, other = (record.correct(rows[name].knockoff.students) for name in (pair.attack, pair.averaged))
    margin = paired(one, other, record.groups)
    p = margin.p_above()
    return p >= LEVEL, f"{pair.attack} is {points(margin.mean)} points above {pair.averaged} (one-sided p = {p:.2g})"


def print_selftest(found: Sequence[TeacherCheck]) -> None:
    """Print the result of the selftest as a table."""
    heads = ("teacher", "expected", "found", "holds", "why")
    rows = [(one.teacher, one.expected, one.found, "yes" if one.holds else "NO", "; ".join(one.why)) for one in found]
    terminal.table(heads, rows, words=heads)
