"""A trained student's answers: the step apart from training that holds validation and test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import torch

from audit.execution.cells import Cell, Result
from audit.execution.door import Door
from audit.execution.worker import Trained
from reports.record import Packed, Regime
from teachers.task import Pool
from teachers.training import build_student, predict

Doors = Callable[[Cell], Door | None]  # None for a student that asks nobody
Exams = dict[str, Pool]  # "validation" and "test", held by the parent alone


def measure(cell: Cell, trained: Trained, door: Door | None, exams: Exams, classes: int) -> Result:
    """Let a trained student answer the splits that its cell names."""
    seen = trained.report
    network = build_student(seen.recipe, classes, exams["validation"].shape)
    network.load_state_dict({name: torch.from_numpy(w) for name, w in trained.weights.items()})
    answers = {
        name: Packed.of(predict(network, exam, cell.device))
        for name, exam in exams.items()
        if name == "validation" or cell.splits == "both"
    }
    return Result(
        cell=cell,
        regime=Regime(recipe=asdict(seen.recipe), view=seen.view, source=seen.source),
        validation=answers["validation"],
        test=answers.get("test"),
        charged=0 if door is None else door.charged,
        estimated=0 if door is None else door.estimated,
        asked=() if door is None else door.rests,
        repeats=seen.repeats,
        diverged=seen.diverged,
        network_parameters=seen.parameters,
        seconds=seen.seconds,
        step_seconds=seen.step_seconds,
    )
