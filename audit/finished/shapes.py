"""Check the type and shape of every array of a record, before any array is unpacked."""

from __future__ import annotations

from collections.abc import Iterator

from audit.finished.design import Disagreement, student, unequal
from reports.record import GROUPINGS, PackedArray, Record
from teachers.targets import questions

Shapes = Iterator[
    tuple[str, PackedArray | None, str, tuple[int, ...]]
]  # where, the stored array, the expected type and shape


def shapes(record: Record) -> Iterator[Disagreement]:
    """Check that all arrays are there, with the types and shapes that follow from the splits of the task."""
    for where, packed, kind, shape in (*_of_task(record), *_of_students(record), *_of_answers(record)):
        stored = "nothing" if packed is None else f"{packed.dtype} {packed.shape}"
        yield from unequal(where, stored, f"{kind} {shape}")


def _of_task(record: Record) -> Shapes:
    task = record.task
    yield "task.validation_labels", task.validation_labels, "uint16", (task.validation,)
    yield "task.test_labels", task.test_labels, "uint16", (task.test,)
    for where in GROUPINGS:
        if (groups := getattr(task, where)) is not None:
            yield f"task.{where}", groups, "uint32", (task.test,)
    for where, teacher in record.teachers:
        yield f"{where}.validation_correct", teacher.validation_correct, "bool", (task.validation,)
        yield f"{where}.test_correct", teacher.test_correct, "bool", (task.test,)
        shown = teacher.usability
        yield f"{where}.usability.correct", shown.correct, "bool", (task.test,)
        yield f"{where}.usability.classes", shown.classes, "uint16", (task.test,)
        if shown.confidence is not None:
            yield f"{where}.usability.confidence", shown.confidence, "float16", (task.test,)


def _of_students(record: Record) -> Shapes:
    task = record.task
    for trial in record.trials:
        where = student(trial)
        yield f"{where}: validation_correct", trial.validation_correct, "bool", (task.validation,)
        if trial.role != "tune" or trial.test_correct is not None:
            yield f"{where}: test_correct", trial.test_correct, "bool", (task.test,)
            yield f"{where}: test_agrees", trial.test_agrees, "bool", (task.test,)


def _of_answers(record: Record) -> Shapes:
    classes = len(record.task.classes)
    for pool in record.cmi:
        yield (
            f"cmi.{pool.name}.answers",
            pool.answers,
            "float16",
            (pool.labels.shape[0] if pool.labels.shape else 0, classes),
        )
        yield f"cmi.{pool.name}.labels", pool.labels, "uint16", pool.answers.shape[:1]
    probe, drawn = record.probe, min(record.task.validation, questions.SAMPLE)
    batch = min(drawn, questions.BATCH)
    yield "probe.repeated", probe.repeated, "float16", (batch,)
    yield "probe.regrouped", probe.regrouped, "float16", (min(batch, questions.GROUPS * questions.GROUP),)
    yield "probe.correct", probe.correct, "bool", (drawn,)
    yield "probe.duplicated", probe.duplicated, "bool", (record.task.test,)
    if (again := probe.again) is not None:
        yield "probe.again.validation", again.validation, "float16", (batch,)
        yield "probe.again.noise", again.noise, "float16", again.views.shape
        yield "probe.again.views", again.views, "float16", (min(questions.VIEWS, *again.views.shape[:1]),)
    for other in probe.normalised:
        yield f"probe.normalised {other.normalize}", other.correct, "bool", (drawn,)
