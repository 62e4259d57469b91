"""`audit repeat`: train some students of a record again, from the record alone, and compare their correct answers."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from audit.cache.store import Cache
from audit.context import open_context, workbench
from audit.finished.design import student
from audit.plan.cells import ENGINE, Result, Use
from audit.plan.options import Options
from audit.recording.evidence import environment
from reports.record import PackedArray, Record, Trial, load
from teachers.errors import RefusedInput, UsageError
from teachers.intake.factories import is_factory
from teachers.task import known

ELSEWHERE = 0.02  # by which test accuracy may differ on another build of torch or another processor


class Repetition(NamedTuple):
    """One student that was trained again."""

    trial: Trial
    differs: int  # number of test images on which exactly one of both students is right
    before: float  # accuracy on the test images
    now: float
    same_build: bool

    @property
    def agrees(self) -> bool:
        """Whether both students agree: exactly on the same build, otherwise within the tolerance."""
        return self.differs == 0 if self.same_build else abs(self.now - self.before) <= ELSEWHERE


def repeat(
    folder: Path,
    cells: int,
    seed: int = 0,
    cache: Path | None = None,
    trust: bool = False,
    architecture: str | None = None,
) -> Iterator[Repetition]:
    """Train randomly chosen judged students of a record again, without their cache entries.

    `architecture` must name the code that made the teacher's network, if there was any: a record may be a stranger's.
    Raises RecordError for a folder without a record; RefusedInput where the teacher, the data or the engine are not
    those of the record; UsageError where the code is not named.
    """
    record = load(folder)
    judged = [trial for trial in record.trials if trial.test_correct is not None]
    chosen = random.Random(seed).sample(judged, min(cells, len(judged)))
    _refuse_code(record.settings.arch, architecture)
    options = Options(
        **(asdict(record.settings) | {"attacks": ",".join(row.attack for row in record.comparisons), "groups": ""}),
        trust_model_code=trust,
        cache=cache,
        jobs=1,
        quiet=True,
    )
    with (
        open_context(options) as context,
        tempfile.TemporaryDirectory(dir=context.cache.root) as empty,
    ):
        fresh = replace(context, cache=Cache(Path(empty)))
        runner = workbench(fresh, Path(empty) / "out")
        known_teachers = {s.fingerprint for s in runner.targets.values()} | {None}
        with closing(runner.executor):
            for trial in chosen:
                cell = trial.cell
                refuse_others(trial, known_teachers, context.task.digest)
                runner.train(cell.technique, [Use(cell, "judge", trial.teacher, trial.kind)])
                yield compared(record, trial, runner.results[cell.key], known(context.task.test))


def _refuse_code(recorded: str | None, given: str | None) -> None:
    """Raise UsageError where a record names code that the command line does not name, or another architecture."""
    if given is not None and given != recorded:
        raise UsageError(f"--arch {given}: the record names {recorded or 'none'}; give that, or leave --arch out")
    if is_factory(recorded) and given is None:
        raise UsageError(
            f"the teacher was made with the code {recorded}, and a record runs no code by itself; if it is yours, give "
            f"--arch {recorded} --trust-model-code"
        )


def refuse_others(trial: Trial, teachers: set[str | None], task: str) -> None:
    """Raise RefusedInput where a student cannot be trained again in the same way."""
    cell = trial.cell
    if cell.key != trial.key:
        raise RefusedInput(f"the digest of {student(trial)}, does not match the cell that the record gives for it")
    if cell.engine != ENGINE:
        raise RefusedInput(f"the record was made with engine {cell.engine}, this version has another")
    if cell.task != task:
        raise RefusedInput("the data is not the data of the record")
    if cell.teacher not in teachers:
        raise RefusedInput("the teacher is not the teacher of the record")


def compared(record: Record, trial: Trial, result: Result, labels: object) -> Repetition:
    """Compare a student with its trial in the record."""
    assert result.test is not None
    assert isinstance(trial.test_correct, PackedArray)
    before, now = trial.test_correct.array(), result.test.array() == labels
    here, there = environment(), record.environment
    same = (here.torch, here.platform, here.code) == (there.torch, there.platform, there.code)
    return Repetition(trial, int((before != now).sum()), float(before.mean()), float(now.mean()), same)
