"""The reference bag: teachers of many methods, audited in the same way, and another teacher's rank among them."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Annotated, NamedTuple

from pydantic import Field

from reports.record import UNSTATED, Count, Data, Flag, Over, PackedArray, Parameters, Record, Share, SuiteInfo
from reports.settings import Settings, question

REFERENCE = "bag-2"  # suite of the newest bag that is shipped


class Row(Data):
    """An attack on one teacher: its students' correct answers, and the controls that they are compared with."""

    attack: str
    parameters: Parameters
    margin: float  # over the LS student
    correct: PackedArray  # (S, N)
    passes: bool  # whether it passes the positive control in the same scenario
    control: Count  # index into Bag.controls
    baseline: Count  # index of the best students without a teacher, by validation accuracy
    over: dict[Over, Count] = Field(default_factory=dict)  # index of each kind of control; bag-1 has none
    same: bool = False  # whether its students are its control's: it learns from the labels alone
    mis_tuned: bool = False  # whether its best setting is surely worse than its control on validation images


class BagTeacher(Data):
    """One teacher in one scenario."""

    method: str
    seed: Count
    sha256: str
    shots: Share
    pool: str  # digest of the images that the attacker holds
    test_accuracy: Share
    cmi: float | None  # largest over temperatures, on validation images, in nats; None: the teacher hides classes
    flags: tuple[Flag, ...]  # the flags that limit its verdict
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]

    @property
    def margin(self) -> float:
        """The largest margin of an attack."""
        return max(row.margin for row in self.rows)


class Control(Data):
    """Students without a teacher, which the comparisons of all teachers share."""

    name: str
    parameters: Parameters
    cells: tuple[str, ...]
    correct: PackedArray  # (S, N)


class Bag(Data):
    """The data from which the bag's page and every rank are computed."""

    date: str  # date of the last audit
    task: str
    task_digest: str
    images: Count  # number of test images, N
    student: str
    suite: SuiteInfo
    design: Count = UNSTATED  # as of a record
    controls: tuple[Control, ...]
    teachers: tuple[BagTeacher, ...]


@cache
def shipped(suite: str) -> Bag | None:
    """Return the bag that was audited with a suite, or None where there is none."""
    file = resources.files("reports") / "bags" / f"{suite}.json"
    return Bag.model_validate_json(file.read_bytes()) if file.is_file() else None


class Method(NamedTuple):
    """The largest CMI of each of a method's teachers, in nats, ascending."""

    name: str
    cmi: tuple[float, ...]


class Concentrations(NamedTuple):
    """The largest CMI over temperatures of each teacher in a bag, on the validation images of one task."""

    bag: str
    methods: tuple[Method, ...]  # by their mean, ascending
    hidden: int  # number of teachers without CMI, because their answers hide classes

    @property
    def values(self) -> tuple[float, ...]:
        """The values of all teachers, ascending."""
        return tuple(sorted(value for method in self.methods for value in method.cmi))


def concentrations(task_digest: str, sha256: str) -> Concentrations | None:
    """Return the CMI of a task's other teachers; None where no bag has this task."""
    for file in sorted((resources.files("reports") / "bags").iterdir(), key=lambda file: file.name, reverse=True):
        name = file.name.removesuffix(".json")
        bag = shipped(name)
        if bag is not None and bag.task_digest == task_digest:
            others = {t.sha256: t for t in bag.teachers if t.sha256 != sha256}.values()
            found: dict[str, list[float]] = {}
            for teacher in others:
                if teacher.cmi is not None:
                    found.setdefault(teacher.method, []).append(teacher.cmi)
            named = [Method(method, tuple(sorted(values))) for method, values in found.items()]
            methods = sorted(named, key=lambda method: sum(method.cmi) / len(method.cmi))
            return Concentrations(name, tuple(methods), sum(t.cmi is None for t in others)) if methods else None
    return None


def standing(record: Record) -> str:
    """Write a teacher's rank among the bag's teachers; empty where the audits cannot be compared."""
    bag = shipped(record.suite.name)
    margins = [c.margin.mean for c in record.comparisons if c.margin is not None and not c.outside_suite]
    if bag is None or not margins or not comparable(record, bag):
        return ""
    others = [t for t in bag.teachers if t.pool == record.task.pool_digest and t.sha256 != record.teacher.sha256]
    if not others:
        return ""
    largest = max(margins)
    percentile = sum((t.margin < largest) + 0.5 * (t.margin == largest) for t in others) / len(others)
    methods = len({t.method for t in others})
    return (
        f"Its largest margin is at percentile {100 * percentile:.0f} of the reference bag {record.suite.name} of "
        f"{bag.date}, which has {len(others)} other teachers of {methods} methods."
    )


def comparable(record: Record, bag: Bag) -> bool:
    """Whether an audit has the same question as the bag's audits."""
    return (
        record.suite.complete
        and record.suite.digest == bag.suite.digest
        and record.design == bag.design
        and record.task.digest == bag.task_digest
        and record.task.test_groups is None
        and question(record.settings) == question(Settings(teacher=bag.task, student=bag.student))
    )
