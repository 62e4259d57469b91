"""Compute all derived numbers of a record. Pure functions: an audit calls them, and `audit verify` calls them again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.analysis import protocol_flags, tuning
from audit.analysis.flags import raised
from audit.analysis.results import Bits, ResultArrays
from audit.plan import suite
from audit.plan.suite import complete
from audit.statistics import cmi, sights, usability, verdict
from audit.statistics.collapses import passing
from audit.statistics.compare import Margin, above, paired, scatter
from audit.statistics.image_groups import design_effect
from audit.statistics.sequential import Looks, once
from audit.statistics.verdict import Finding, Ruling
from reports import frameworks
from reports.base import replaced
from reports.controls import beaten, home
from reports.record import (
    UNSTATED,
    BaselineResult,
    CMIPool,
    Comparison,
    ControlMargin,
    ControlResult,
    Cost,
    Flag,
    Interval,
    KnockoffResult,
    Over,
    PositiveControl,
    Record,
    SurfaceResult,
    TeacherInfo,
    Trial,
    Usability,
    Verdict,
)
from reports.settings import ALPHA, TOLERANCE
from reports.wording import run_so_far, strongest
from teachers import names
from teachers.proportions import majority, wilson

POSITIVE_LEVEL = 0.95  # of the positive control


def derived(record: Record) -> Record:
    """Return the record with every number, flag and verdict computed from its students, answers and settings."""
    facts = results(record)
    tests = sum(bool(row.knockoff.students) for row in record.comparisons) + len(record.planned)
    over = [facts.looks(row) if row.knockoff.students else None for row in record.comparisons]
    comparisons = [compared(facts, row, own, tests) for row, own in zip(record.comparisons, over, strict=True)]
    controls = [compared(facts, row) for row in record.controls]
    flags = doubts(facts, comparisons, controls)
    findings = [finding(facts, row, own) for row, own in zip(comparisons, over, strict=True)]
    curves = [measured(pool, len(record.task.classes)) for pool in record.cmi]
    ruling = verdict.rule(findings, flags, complete=whole(record), delta=facts.delta, alpha=record.look.alpha)
    return record.model_copy(
        update={
            "teacher": described(facts, record.teacher),
            "ordinary": record.ordinary and described(facts, record.ordinary),
            "task": record.task.model_copy(update={"majority": majority(facts.labels)}),
            "trials": tuple(counted(facts, trial) for trial in record.trials),
            "comparisons": tuple(
                c.model_copy(update={"p_holm": ruling.p_holm.get(record.name_of(c))}) for c in comparisons
            ),
            "controls": tuple(c.model_copy(update={"p_holm": None}) for c in controls),
            "flags": tuple(flags),
            "verdict": worded(record, ruling, comparisons),
            "cmi": tuple(
                pool.model_copy(update=cmi_fields(curve)) for pool, curve in zip(record.cmi, curves, strict=True)
            ),
            "clusters": sights.seen(record, curves),
            "frameworks": frameworks.confirmed(record),
        }
    )


def whole(record: Record) -> bool:
    """Whether the record has every attack of its suite; false where the suite is not known."""
    return complete(record.suite.name, {row.attack for row in record.comparisons})


@dataclass(frozen=True)
class RecordResults(ResultArrays):
    """The arrays of a record."""

    record: Record
    trials: dict[str, Trial]  # by key

    def of(self, cells: Iterable[str]) -> list[Trial]:
        """Return the trials of some cells."""
        return [self.trials[cell] for cell in cells]

    def both(self, row: Comparison) -> tuple[Bits, Bits]:
        """Return what a row's students and their controls classify correctly, (S, N) each, of the seeds that count."""
        return self.typical(row.knockoff.students, row.control.students)

    def collapsed(self, students: Sequence[str]) -> float:
        """Return the share of students that would be trained again."""
        return float((~passing(self.tuning(students))).mean()) if self.retrains else 0.0

    @property
    def delta(self) -> float:
        """The tolerance, as a fraction."""
        return self.record.settings.tolerance

    @property
    def alpha(self) -> float:
        """The error rate of each word."""
        return self.record.look.alpha

    def on_dropped(self, cells: Sequence[str]) -> float | None:
        """Return the students' accuracy on the classes that the attacker never saw; None where there are none."""
        return None if self.judged.all() else float(self.on_test(cells)[:, ~self.judged].mean())

    def agreement(self, cells: Iterable[str]) -> float:
        """Return the share of test images on which students agree with their teacher."""
        shares = [t.test_agrees.array().mean() for t in self.of(cells) if t.test_agrees is not None]
        return float(np.mean(shares))

    def looks(self, row: Comparison) -> Looks:
        """Return an attack's margin over the LS student at every look."""
        return self.margins(row.knockoff.students, row.control.students, row.looks, self.record.look.horizon)

    def rivals(self, row: Comparison, over: Looks | None) -> dict[Over, Looks]:
        """Return an attack's margins over every kind of control that it has to beat, at every look."""
        due = {found.over: found.students for found in row.margins if found.over != "home-made"}
        return {
            kind: over
            if over is not None and students == row.control.students
            else self.margins(row.knockoff.students, students, row.looks, self.record.look.horizon)
            for kind, students in due.items()
        }


def results(record: Record) -> RecordResults:
    """Return the arrays of a record."""
    task, dropped = record.task, record.settings.drop_classes
    trials = {trial.key: trial for trial in record.trials}

    def on_validation(students: Sequence[str]) -> Bits:
        return np.stack([trials[key].validation_correct.array() & (not trials[key].diverged) for key in students])

    return RecordResults(
        labels=task.test_labels.array(),
        validation_labels=task.validation_labels.array(),
        unseen=tuple(task.classes.index(name) for name in dropped),
        on_test=record.correct,
        on_validation=on_validation,
        image_groups=record.groups,
        record=record,
        trials=trials,
        retrains=record.design > UNSTATED,
    )


def interval(facts: RecordResults, margin: Margin, over: Looks | None = None) -> Interval:
    """Return a margin as a record's interval; its one-sided bounds and p hold over all looks, bounds lie in [−1, 1]."""
    margin = facts.bounded(margin)
    over = over or once(margin)
    bounds = (*margin.interval(0.95), over.lower(facts.alpha), over.upper(facts.alpha))
    low, high, lower, upper = (float(np.clip(b, -1, 1)) for b in bounds)
    return Interval(
        mean=margin.mean,
        se=min(1.0, margin.se),
        df=margin.df,
        low=low,
        high=high,
        lower=lower,
        upper=upper,
        p=over.p_above(),
        seeds=margin.seeds,
        images=margin.images,
        discordant=margin.discordant,
    )


def counted(facts: RecordResults, trial: Trial) -> Trial:
    """Fill in a student's validation accuracy and its agreement with the teacher."""
    return trial.model_copy(
        update={
            "validation_accuracy": float(facts.tuning([trial.key]).mean()),
            "agreement": None if trial.test_agrees is None else float(trial.test_agrees.array().mean()),
        }
    )


def described(facts: RecordResults, teacher: TeacherInfo) -> TeacherInfo:
    """Fill in a teacher's accuracies and the usability of its surface."""
    right = teacher.test_correct.array()
    effect = 1.0 if facts.image_groups is None else design_effect(facts.image_groups, right)
    low, high = wilson(int(right.sum()) / effect, len(right) / effect)
    return teacher.model_copy(
        update={
            "validation_accuracy": float(teacher.validation_correct.array().mean()),
            "test_accuracy": float(right.mean()),
            "test_low": low,
            "test_high": high,
            "usability": used(teacher.usability, len(facts.record.task.classes)),
        }
    )


def used(shown: Usability, classes: int) -> Usability:
    """Fill in the accuracy, calibration error and top-5 share that users get through a surface."""
    right, confidence = shown.correct.array(), shown.confidence
    return shown.model_copy(
        update={
            "accuracy": float(right.mean()),
            "calibration_error": None if confidence is None else usability.calibration_error(confidence.array(), right),
            "top5": usability.rankable(shown.classes.array(), classes),
        }
    )


def surface_row(record: Record, folder: str, digest: str) -> SurfaceResult:
    """Return an audit's row in the table of surfaces; `digest` is the digest of its record.

    Raises ValueError for a record that does not say what its surface shows.
    """
    best, shown = strongest(record), record.teacher.usability
    return SurfaceResult(
        surface=record.settings.surface,
        folder=folder,
        record=digest,
        word=record.verdict.word,
        attack="" if best is None else record.name_of(best),
        margin=None if best is None else best.margin,
        accuracy=shown.accuracy,
        calibration_error=shown.calibration_error,
        top5=shown.top5,
    )


def measured(pool: CMIPool, classes: int) -> cmi.Curve:
    """Measure how concentrated a teacher's answers are (CMI)."""
    return cmi.curve(pool.answers.array(), pool.labels.array().astype(np.int64), classes)


def cmi_fields(curve: cmi.Curve) -> dict[str, Any]:
    """Write a curve over `cmi.TEMPERATURES` as the fields of CMICurve."""
    return {
        "temperatures": tuple(curve.temperatures.tolist()),
        "cmi": tuple(curve.cmi.tolist()),
        "se": tuple(curve.se.tolist()),
        "plug_in": tuple(curve.plug_in.tolist()),
        "gamma": tuple(curve.gamma.tolist()),
        "ncmi": tuple(curve.ncmi.tolist()),
        "per_class": finite(curve.per_class[cmi.TEMPERATURES.index(1.0)]),
        "unreliable": int(curve.unreliable.sum()),
    }


def finite(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    """Replace nan by None."""
    return tuple(None if np.isnan(v) else float(v) for v in values)


def compared(facts: RecordResults, row: Comparison, over: Looks | None = None, attacks: int = 0) -> Comparison:
    """Compare an attack's knockoff students, or a control's students, with the LS student.

    `over`: the looks of an attack; a control has a single look. `attacks`: number of attacks that are judged together
    or planned, for the correction of the lower bound. The baseline has as many students as the first look.
    """
    row = replaced(row, positive_control=row.positive_control and positive(facts, row.positive_control))
    if not row.knockoff.students:
        return unjudged(row)
    mine, control = facts.both(row)
    over = over or once(facts.bounded(paired(mine, control, facts.groups)))
    rivals = facts.rivals(row, over)
    trials = facts.of(row.knockoff.students)
    asked = trials[0].teacher is not None
    return replaced(
        row,
        knockoff=replaced(
            row.knockoff,
            accuracy=float(mine.mean()),
            agreement=facts.agreement(row.knockoff.students) if asked else None,
            queries=max(trial.queries for trial in trials),
            dropped_accuracy=facts.on_dropped(row.knockoff.students) if asked else None,
        ),
        control=replaced(
            row.control,
            accuracy=float(control.mean()),
            dropped_accuracy=facts.on_dropped(row.control.students) if asked else None,
        ),
        baseline=row.baseline and over_baseline(facts, row.baseline, facts.correct(row.knockoff.students)),
        margin=interval(facts, over.last, over),
        margins=tuple(over_control(facts, found, mine, rivals.get(found.over)) for found in row.margins),
        corrected_lower=float(np.clip(over.lower(facts.alpha / attacks), -1, 1)) if attacks else None,
        curve=tuple(cost(facts, point) for point in row.curve),
        mis_tuned=bool(attacks) and tuning.mis_tuned(facts, row),
    )


def unjudged(row: Comparison) -> Comparison:
    """Return a row without students: of its results, the settings alone remain."""
    mine, control = row.knockoff, row.control
    return replaced(
        row,
        knockoff=KnockoffResult(parameters=mine.parameters, tuned_over=mine.tuned_over),
        control=ControlResult(name=control.name, parameters=control.parameters),
        baseline=None,
        margin=None,
        corrected_lower=None,
        curve=(),
        margins=(),
        mis_tuned=False,
    )


def over_control(facts: RecordResults, found: ControlMargin, mine: Bits, over: Looks | None) -> ControlMargin:
    """Fill in an attack's margin over one kind of control; that over a home-made teacher has no looks."""
    theirs = facts.correct(found.students)
    margin = interval(facts, paired(mine, theirs)) if over is None else interval(facts, over.last, over)
    return replaced(found, accuracy=float(theirs.mean()), margin=margin)


def over_baseline(facts: RecordResults, baseline: BaselineResult, mine: Bits) -> BaselineResult:
    """Fill in the margin of an attack's students over the baseline's."""
    theirs = facts.correct(baseline.students)
    return replaced(baseline, margin=interval(facts, paired(mine[: len(theirs)], theirs, facts.groups)))


def cost(facts: RecordResults, point: Cost) -> Cost:
    """Fill in the numbers of one point of a steal-cost curve."""
    return replaced(
        point,
        queries=max(trial.queries for trial in facts.of(point.students)),
        accuracy=interval(facts, above(facts.correct(point.students), 0.0, facts.groups)),
        agreement=facts.agreement(point.students),
    )


def positive(facts: RecordResults, found: PositiveControl) -> PositiveControl:
    """Fill in whether an attack passes its positive control: it beats its baseline on the ordinary teacher.

    With original images, the baseline is the LS student. Without them, it is the accuracy of always naming the largest
    class; in addition, accuracy must rise with the budget.
    """
    mine, rises = facts.correct(found.students), None
    if found.control_students:
        margin = paired(mine, facts.correct(found.control_students), facts.groups)
    else:
        margin = above(mine, majority(facts.labels[facts.judged]), facts.groups)
        rises = paired(mine, facts.correct(found.curve[0].students), facts.groups)
    return replaced(
        found,
        passes=passes(margin, rises),
        margin=interval(facts, margin),
        curve=tuple(cost(facts, point) for point in found.curve),
    )


def passes(margin: Margin, rises: Margin | None = None) -> bool:
    """Whether an attack with this margin over its baseline passes the positive control.

    `rises`: by how much its accuracy rises with the budget, if it must.
    """
    grows = rises is None or rises.lower(POSITIVE_LEVEL) > 0
    return grows and not margin.degenerate and margin.lower(POSITIVE_LEVEL) > 0


def finding(facts: RecordResults, row: Comparison, over: Looks | None) -> Finding:
    """Return all that the verdict knows about an attack."""
    return Finding(
        attack=facts.record.name_of(row),
        status=row.status,
        looks=over,
        rivals=facts.rivals(row, over),
        same=row.status == "judged" and facts.same(row.knockoff.students, row.control.students),
        passes=row.passes,
        mis_tuned=row.mis_tuned,
        listed=facts.record.design > UNSTATED and not row.outside_suite,
    )


def doubts(facts: RecordResults, comparisons: Sequence[Comparison], controls: Sequence[Comparison]) -> list[Flag]:
    """Return the flags that a record raises."""
    record = facts.record
    nulls = [row for row in controls if row.attack == suite.NULL_NAME]
    ls = [trial for row in (*comparisons, *nulls) for trial in facts.of(row.control.students)]
    lowest = min(facts.correct([trial.key for trial in ls]).mean(1))
    judged = [row for row in (*comparisons, *nulls) if row.control.students and row.holds == "original"]
    flags = [
        *(protocol_flags.null_control(paired(*facts.both(n), facts.groups)) for n in nulls),
        protocol_flags.weak_control(sum(t.diverged for t in ls), float(lowest), majority(facts.labels[facts.judged])),
        protocol_flags.erratic_control(
            max(scatter(facts.both(row)[1]) for row in (*comparisons, *nulls) if row.control.students),
            max((facts.collapsed(row.control.students) for row in judged), default=0.0),
            max(((facts.collapsed(row.knockoff.students), row.attack) for row in judged), default=(0.0, "")),
        ),
        protocol_flags.light_tuning(record.suite.name, record.suite.tuning_seeds),
        protocol_flags.small_validation(len(record.task.validation_labels.array())),
        protocol_flags.few_labels(record.settings.labels),
        protocol_flags.dropped_classes(record.settings.drop_classes),
        protocol_flags.synthetic(record.teacher.name)
        if record.teacher.method in names.SYNTHETIC
        else protocol_flags.weak_teacher(float(record.teacher.validation_correct.array().mean()), ls_validation(facts)),
        *(protocol_flags.failed(c.attack, c.reason) for c in comparisons if c.status == "failed"),
        *(protocol_flags.identical(c.attack, c.reason) for c in comparisons if c.status == "identical"),
    ]
    return [flag for flag in flags if flag is not None] + raised(facts, comparisons, nulls)


def ls_validation(facts: RecordResults) -> float:
    """Return the validation accuracy of the best LS setting with the plain recipe, over all architectures."""
    record = facts.record
    plain = [
        trial
        for trial in record.trials
        if trial.cell.technique == suite.LS_NAME and trial.role == "tune" and trial.regime.view == "crop"
        if trial.regime.recipe | {"architecture": ""} == record.suite.recipe | {"architecture": ""}
    ]
    return max(by_setting(facts, plain).values(), default=0.0)


def by_setting(facts: RecordResults, trials: Iterable[Trial]) -> dict[str, float]:
    """Return the mean validation accuracy of each setting's students."""
    found: dict[str, list[float]] = {}
    for trial in trials:
        setting = f"{trial.cell.student} {trial.cell.parameters}"
        found.setdefault(setting, []).append(counted(facts, trial).validation_accuracy)
    return {name: float(np.mean(values)) for name, values in found.items()}


def worded(record: Record, ruling: Ruling, comparisons: Sequence[Comparison]) -> Verdict:
    """Write the ruling as the record's verdict, with its sentence and scope."""
    name, least = record.teacher.name, f"{record.settings.delta:g} points or more"
    surest = min(comparisons, key=lambda row: ruling.p_holm.get(record.name_of(row), 1.0), default=None)
    better = "" if surest is None else f"{beaten(surest)}{(told := home(surest)) and f'; {told}'}"
    bar = (
        " or above the attack's loss without a teacher, whichever is better"
        if any(c.margins for c in comparisons)
        else ""
    )
    sentences = {
        "DISTILLABLE": f"A student that learns from {name} is more accurate than the LS student, which has no teacher"
        f"{better}.",
        "UNDISTILLABLE": f"No attack in scope trains a student with the answers of {name} that is {least} "
        f"above the LS student{bar}.",
        "INCONCLUSIVE": f"This audit shows neither that {name} is distillable nor that it is not.",
    }
    return Verdict(
        word=ruling.word,
        sentence=sentences[ruling.word],
        scope=scope(record, comparisons),
        reasons=ruling.reasons,
        settle=ruling.settle,
        delta=record.settings.tolerance,
        look=record.look.number,
        alpha=record.look.alpha,
    )


def scope(record: Record, comparisons: Sequence[Comparison]) -> str:
    """Describe the verdict's scope: attacks that pass the positive control, surface, budget, student and data."""
    passing = [record.name_of(c) for c in comparisons if c.status == "judged" and c.passes and not c.mis_tuned]
    asked, held = record.settings, f"{record.task.pool_images:,} images of {record.task.name}"
    kept = "" if asked.shots == 1 else f" (--shots {asked.shots:g})"
    kept += f" without the classes {', '.join(asked.drop_classes)}" if asked.drop_classes else ""
    labelled = "all" if asked.labels == 1 else f"{asked.labels:.0%}"
    student = asked.student.replace(",", " or ")
    stated = "" if asked.delta == TOLERANCE else f"; tolerance {asked.delta:g} points"
    stated += "" if record.look.alpha == ALPHA else f"; error rate {100 * record.look.alpha:.3g} % a word"
    budget = "no query budget" if asked.budget is None else f"at most {asked.budget:,} queries a student"
    ran = f"attacks that pass the positive control: {', '.join(passing) or 'none'}"
    if record.planned:
        ran = run_so_far(record)
    return (
        f"Suite {record.suite.name}; {ran}; surface "
        f"{asked.surface}; {budget}; student {student}; attacker's data: {held}{kept}, {labelled} of them labelled; "
        f"{_seeds(comparisons)} seeds, {images(record):,} test images{grouped(record)}{stated}."
    )


def grouped(record: Record) -> str:
    """Return the groups of test images as part of a sentence; empty where there are none."""
    groups = results(record).groups
    return "" if groups is None else f" in {len(np.unique(groups)):,} groups"


def _seeds(comparisons: Sequence[Comparison]) -> str:
    numbers = sorted({len(c.knockoff.students) for c in comparisons if c.knockoff.students})
    return f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(*numbers or (0,))


def images(record: Record) -> int:
    """Return the number of test images that the verdict uses."""
    return int(results(record).judged.sum())
