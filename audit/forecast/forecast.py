"""Predict an audit's cost and power before it trains anything."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from attacks.base import Attack, Technique
from attacks.controls.ls import LS
from audit.context import RunContext, open_context
from audit.diagnosis import pools
from audit.forecast import stopwatch
from audit.forecast.stopwatch import Measurements
from audit.plan import count
from audit.plan.count import Work
from audit.plan.design import Attacks, TeacherRole, labels_only
from audit.plan.options import Options
from audit.plan.suite import EFFORTS
from audit.recording.fitness import refuse
from audit.statistics.joint import JointPower, joint_power
from audit.statistics.power import Power, Scatter, of_record, power, reference
from audit.trials import preparation as plan
from audit.trials.protocol import Experiment, asked_ahead, by_role, offered
from reports.record import load
from teachers import oracle
from teachers.surface import FULL
from teachers.targets import probe, questions
from teachers.targets.home import LateBox, Lesson, home_made
from teachers.targets.target import Target
from teachers.units import duration

BYTES = 4  # size of a stored probability
# In the reference bag, plain, distilled, MCMI and APGP teachers give most to the first group of attacks of a suite,
# those of CMIM and label smoothing and nasty ones to the second.
KINDS = "ordinary teacher", "teacher that resists"
ASKED = 256  # validation images that measure how fast the teacher answers


@dataclass(frozen=True)
class Span:
    """A range: `least`, if the first look decides everything and controls are shared, to `most`."""

    least: float
    most: float

    def __add__(self, other: Span) -> Span:
        return Span(self.least + other.least, self.most + other.most)

    def times(self, factor: float) -> Span:
        """Return the range multiplied by a factor."""
        return Span(factor * self.least, factor * self.most)


NOTHING = Span(0, 0)


@dataclass(frozen=True)
class Row:
    """A phase: its students, and the seconds that they take on all workers together."""

    name: str
    students: Span
    seconds: Span


@dataclass(frozen=True)
class Forecast:
    """The result of `audit plan`."""

    teacher: str
    surface: str
    suite: str
    students: tuple[str, ...]  # architectures
    attacks: int
    seeds: tuple[int, int]  # numbers of seeds at the first and at the last look
    images: int  # number of judged test images
    workers: int
    rows: tuple[Row, ...]
    teachers: Row  # to be trained: the ordinary teacher, and those of the attacker's own
    words: tuple[Row, ...]  # what a word takes that one of the first groups of attacks makes sure, by kind of teacher
    kept: int  # tuning students that are in the cache already
    answering: Span  # seconds that the teachers take to answer
    memory: int  # bytes, without what attacks take that look at all answers at once
    stored: int  # bytes of one teacher's answers about crops: in blocks that the cache keeps, and joined to a file
    queries: Span  # queries to the audited teacher
    auditor: int  # the auditor's own share of the queries
    price: float | None  # price of 1,000 queries
    scatter: Scatter
    power: Power
    delta: float  # tolerance, a fraction
    joint: JointPower  # over all attacks
    efforts: Mapping[str, Power]
    measured: int  # number of techniques whose time was measured
    techniques: int

    @property
    def trained(self) -> Span:
        """Number of students to train."""
        return sum((row.students for row in self.rows), NOTHING)

    @property
    def seconds(self) -> Span:
        """Wall time."""
        return sum((row.seconds for row in self.rows), NOTHING) + self.answering + self.teachers.seconds


def forecast(
    options: Options,
    *,
    like: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Forecast:
    """Predict the cost and power of the audit that `run` would make; trains short students for some seconds.

    `like`: folder of an earlier audit that supplies the variance components, instead
    of the reference bag. Raises what `run` raises for a request that it refuses.
    """
    scatter = reference() if like is None else of_record(load(like / "record.json" if like.is_dir() else like))
    with open_context(options) as context:
        if like is None and context.experiment.groups is not None:
            context.progress.note("the reference margins are of single images; --like an audit with these --groups")
        return _forecast(context, scatter, clock)


def _forecast(context: RunContext, scatter: Scatter, clock: Callable[[], float]) -> Forecast:
    options, cache, task, experiment = context.options, context.cache, context.task, context.experiment
    asked, audited = experiment.suite, context.targets.audited
    top = oracle.top_classes(audited.full, task.validation)
    refuse(audited, top, task)
    teachers = targets(context)
    attacks = offered(teachers, context.selection.attacks)
    context.progress.note(f"training parts of students for about {duration(stopwatch.SECONDS)}")
    arms = [(own, own.design(attacks)) for own in plan.for_students(experiment)]
    uses = {c.key: c for own, design in arms for arm in design.tuning() for c in own.cells(arm, teachers)}
    kept = {key for key, cell in uses.items() if cache.result(cell) is not None}
    planned = [
        work for own, design in arms for work in count.students(design, partial(own.keys, targets=teachers), kept)
    ]
    techniques = {work.technique for work in planned if work.most}
    ordered = sorted(techniques, key=lambda t: t.name)
    with context.progress.during("training parts of students"):
        measured = stopwatch.measure(experiment, ordered, options.workers, isolated=context.isolated, clock=clock)
    workers = context.at_once
    own = auditors(experiment, audited, context.selection.attacks)
    sent = Span(own, own) + asked_of(experiment, attacks["audited"], planned, measured)
    twins, others = _twins(context, teachers, measured), _ordinary(context, teachers)
    return Forecast(
        teacher=audited.teacher.name,
        surface=audited.surface.name,
        suite=asked.name,
        students=experiment.students,
        attacks=len(attacks["audited"]),
        seeds=(experiment.seeds, experiment.most),
        images=experiment.judged,
        workers=workers,
        rows=tuple(_rows(planned, experiment, measured, workers)),
        teachers=Row("teachers", twins.students + others.students, twins.seconds + others.seconds),
        words=tuple(_words(context, teachers, kept, measured, twins, workers)),
        kept=len(kept),
        answering=sent.times(sum(answer_seconds(t, experiment) for t in teachers.values() if not _late(t))),
        memory=memory(experiment, measured, workers),
        stored=stored(experiment),
        queries=sent,
        auditor=own,
        price=options.price,
        scatter=scatter,
        power=_power(
            experiment.seeds, experiment.most, len(attacks["audited"]), experiment, scatter, options.tolerance
        ),
        delta=options.tolerance,
        joint=joint_power(
            scatter,
            experiment.seeds,
            experiment.most,
            experiment.judged,
            max(1, sum(a.holds == "original" for a in attacks["audited"].values()) * len(experiment.students)),
            options.tolerance,
        ),
        efforts={
            name: _power(s.seeds, s.most or s.seeds, len(s.attacks), experiment, scatter, options.tolerance)
            for name, s in EFFORTS.items()
            if name in ("smoke", "standard", "full")
        },
        measured=len(measured.seconds),
        techniques=len(ordered),
    )


def targets(context: RunContext) -> dict[TeacherRole, Target]:
    """Return the teachers by role; an ordinary one that is not trained yet stays untrained, and is not asked."""
    task, audited = context.task, context.targets.audited
    surface = audited.surface if audited.surface.kind == "gradients" else FULL
    ordinary = replace(home_made(task, task.train, surface, context.runtime), role="ordinary", control=False)
    if isinstance(ordinary.full, LateBox) and ordinary.full.lesson.is_due():
        return {"audited": audited, "ordinary": ordinary}
    return by_role(context.targets)


def _late(target: Target) -> bool:
    return isinstance(target.full, LateBox)


def _twins(context: RunContext, found: Mapping[TeacherRole, Target], measured: Measurements) -> Row:
    """Count the twins that are to be trained, and the seconds until they have answered what students ask them."""
    experiment, workers = context.experiment, context.options.workers
    original = [a for a in context.selection.attacks.values() if a.holds == "original"]
    due = _due(experiment.twins(found, context.runtime) if original else [])
    if not due:
        return Row("twins", NOTHING, NOTHING)
    kinds = {kind for attack in original for kind in (attack.views or "").split("+")} - {""}
    views = sum(1 if kind == "raw" else experiment.recipe.views for kind in kinds) * len(experiment.pool)
    steps = due[0].recipe().recipe.steps
    one = steps * measured.student(LS) / experiment.recipe.steps / workers + views * measured.exam
    number = Span(sum(lesson.number < experiment.seeds for lesson in due), len(due))
    return Row("twins", number, number.times(one))


def _ordinary(context: RunContext, found: Mapping[TeacherRole, Target]) -> Row:
    """Count the audit's other teachers that are to be trained, which the table alone needs; all have one network."""
    original = any(attack.holds == "original" for attack in context.selection.attacks.values())
    home_made = context.experiment.home_made(found, context.runtime) if original else []
    due = [lesson.recipe().recipe for lesson in _due([*found.values(), *home_made])]
    if not due:
        return Row("ordinary teachers", NOTHING, NOTHING)
    one = stopwatch.step_seconds(due[0], context.task, context.experiment.device)
    steps = sum(recipe.steps for recipe in due)
    return Row("ordinary teachers", Span(len(due), len(due)), Span(steps * one, steps * one))


def _due(targets: Iterable[Target]) -> list[Lesson]:
    """Return how those of some teachers are trained that are not trained yet."""
    late = (target.full.lesson for target in targets if isinstance(target.full, LateBox))
    return [lesson for lesson in late if lesson.is_due()]


def _words(
    context: RunContext,
    teachers: Mapping[TeacherRole, Target],
    kept: Collection[str],
    measured: Measurements,
    twins: Row,
    workers: int,
) -> Iterator[Row]:
    """Return what a word takes, twins included, for teachers that the first or the second group of attacks copies."""
    suite, attacks = context.experiment.suite, context.selection.attacks
    first = list[str]()
    for kind, group in zip(KINDS, suite.groups(attacks)[:-1], strict=False):
        first += group
        asked = offered({"audited": teachers["audited"]}, {name: attacks[name] for name in first})
        arms = [(own, own.design(asked).word()) for own in plan.for_students(context.experiment)]
        work = [w for own, design in arms for w in count.students(design, partial(own.keys, targets=teachers), kept)]
        rows = list(_rows(work, context.experiment, measured, workers))
        students, seconds = (sum((getattr(row, name) for row in rows), NOTHING) for name in ("students", "seconds"))
        yield Row(f"{kind} ({', '.join(group)})", students, seconds + twins.seconds)


def _power(first: int, most: int, attacks: int, experiment: Experiment, scatter: Scatter, delta: float) -> Power:
    comparisons = attacks * len(experiment.students)
    return power(scatter, first, most, experiment.judged, comparisons, delta, experiment.independent)


def _rows(planned: Sequence[Work], experiment: Experiment, measured: Measurements, workers: int) -> Iterator[Row]:
    """Add up the phases of the same name over the student architectures."""
    validation, test = len(experiment.task.validation), len(experiment.task.test)
    for name in dict.fromkeys(work.phase for work in planned if work.most or work.phase == count.TUNING):
        students = seconds = NOTHING
        for work in (work for work in planned if work.phase == name):
            answering = measured.exam * (validation + test * work.tested)  # in this process, one student after another
            one = work.length * measured.student(work.technique) / workers + answering
            number = Span(work.least, work.most)
            students, seconds = students + number, seconds + number.times(one)
        yield Row(name, students, seconds)


def asked_of(experiment: Experiment, attacks: Attacks, planned: Sequence[Work], measured: Measurements) -> Span:
    """Return the number of queries that the students need.

    An answer for an image of a pool is queried once, for all students that use it; images that an attack makes are
    queried for each student.
    """
    kinds = {a.views for a in attacks.values() if a.holds == "original" and a.views}
    images = min(len(experiment.pool), experiment.budget or len(experiment.pool))  # the same for every student
    each = questions.declared(kinds, experiment.recipe.views, images, experiment.budget)
    views = sum(1 if kind == "raw" else count for kind, count in each.items()) * images
    found = Span(views, views) + _scarce(experiment, planned)
    students: dict[type[Technique], Span] = defaultdict(lambda: NOTHING)
    for work in planned:
        if work.teacher == "audited" and not _ahead(work.technique):
            students[work.technique] += Span(work.least, work.most).times(work.length)
    for technique, number in students.items():
        one, made = measured.queries.get(technique.name, 0), measured.made.get(technique.name, 1.0)
        pool = experiment.surrogate if getattr(technique, "holds", "") == "surrogate" else experiment.pool
        about = one * (1 - made)  # queries for images of a pool
        found += number.times(one * made) + Span(about, max(about, min(about * number.most, len(pool))))
    return found


def _scarce(experiment: Experiment, planned: Sequence[Work]) -> Span:
    """Return the queries about the fewer images of label-only positive controls, where a budget is below the pool."""
    images = len(experiment.tenth)
    if images == len(experiment.pool):
        return NOTHING
    bites = (work.technique for work in planned if work.phase == count.POSITIVE and work.teacher == "audited")
    kinds = {attack.views for attack in bites if issubclass(attack, Attack) and labels_only(attack) and attack.views}
    asked = images * sum(questions.declared(kinds, experiment.recipe.views, images, experiment.budget).values())
    return Span(asked, asked)


def _ahead(technique: type[Technique]) -> bool:
    """Whether all queries of an attack are made before anything is trained."""
    return issubclass(technique, Attack) and technique.holds == "original" and technique.views is not None


def auditors(experiment: Experiment, audited: Target, attacks: Attacks) -> int:
    """Count the auditor's own queries: both splits, the images for CMI, and all probes."""
    task = experiment.task
    ahead = len(experiment.pool) * sum(views.count for views in asked_ahead(audited, attacks, experiment))
    return (
        len(task.validation)
        + len(task.test)
        + pools.measured_images(task, audited.remote is not None)
        + audited.tried
        + questions.queries(len(task.validation), len(probe.candidates(audited.teacher, task)))
        + questions.again(len(task.validation), ahead)
    )


def answer_seconds(target: Target, experiment: Experiment) -> float:
    """Measure the seconds that a teacher takes to answer one image."""
    pool = experiment.task.validation.take(np.arange(min(ASKED, len(experiment.task.validation))))
    began = time.perf_counter()
    oracle.top_classes(target.full, pool)
    return (time.perf_counter() - began) / len(pool)


def memory(experiment: Experiment, measured: Measurements, workers: int) -> int:
    """Estimate an audit's memory in bytes: this process, and every worker with the attacker's images.

    Answers are not in it: workers read them by the batch from a file, whose pages the system can drop.
    """
    if not measured.worker_bytes:
        return measured.own_bytes
    return measured.own_bytes + workers * (measured.worker_bytes + experiment.pool.images.nbytes)


def stored(experiment: Experiment) -> int:
    """Return the size in bytes of the answers for all crops of the attacker's images."""
    return len(experiment.pool) * experiment.recipe.views * len(experiment.task.classes) * BYTES
