"""Measure a trained student on the validation and test splits, which training never sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from attacks import registry
from attacks.base import Attack
from audit.execution import examine, worker_messages
from audit.execution.metering import MeteredOracle
from audit.execution.worker import TrainingOutcome
from audit.plan.cells import Cell, Result
from reports.record import PackedArray, Regime
from teachers.errors import UsageError
from teachers.task import Pool
from teachers.training import Recipe, Report, build_student, predict
from teachers.views import KINDS

Oracles = Callable[[Cell], MeteredOracle | None]  # None for a student that queries no teacher
EvalSplits = dict[str, Pool]  # "validation" and "test"; only the parent process holds them
TIMES = 100  # a plug-in's student may use up to this multiple of its cell's steps, batch and views


class ForeignStudent(ValueError):
    """Raised when a worker returns a student that does not match its cell."""


def measure(
    cell: Cell, trained: TrainingOutcome, door: MeteredOracle | None, eval_splits: EvalSplits, classes: int
) -> Result:
    """Run a trained student on the splits that its cell names.

    The network is built from the cell's recipe. The worker's report goes into the record; only its `wrap` is used to
    build the network. Raises ForeignStudent or PipeError where the worker's student does not match the cell.
    """
    seen = trained.report
    check(cell, seen)
    splits = {name: exam for name, exam in eval_splits.items() if name == "validation" or cell.splits == "both"}
    recipe = replace(Recipe(**cell.recipe), wrap=seen.recipe.wrap)
    if recipe.wrap is None or registry.wraps(recipe.wrap):
        network = build_student(recipe, classes, eval_splits["validation"].shape)
        network.load_state_dict(worker_messages.weighed(trained.weights, network))
        parameters = sum(p.numel() for p in network.parameters())
        tops = {name: predict(network, exam, cell.device) for name, exam in splits.items()}
    else:
        parameters = min(seen.parameters, sum(w.size for w in trained.weights.values()))
        tops = examine.tops(trained.weights, recipe, splits, classes, cell.device)
    answers = {name: PackedArray.of(top) for name, top in tops.items()}
    finite = all(bool(np.isfinite(w).all()) for w in trained.weights.values() if w.dtype.kind == "f")
    return Result(
        cell=cell,
        regime=Regime(recipe=seen.recipe.settings, view=seen.view, source=seen.source),
        validation=answers["validation"],
        test=answers.get("test"),
        charged=0 if door is None else door.charged,
        estimated=0 if door is None else door.estimated,
        asked=() if door is None else door.rests,
        repeats=seen.repeats,
        diverged=seen.diverged or not finite,
        network_parameters=parameters,
        seconds=seen.seconds,
        step_seconds=seen.step_seconds,
        decoded=seen.decoded,
    )


def check(cell: Cell, seen: Report) -> None:
    """Raise ForeignStudent for a report that does not match the cell.

    A plug-in's control is trained for as long as the plug-in reports that its student was, so that length has a limit.
    """
    technique, told = registry.find(cell.technique), seen.recipe
    if told.architecture != cell.recipe["architecture"]:
        own = f"its student is a {told.architecture[:80]!r}, its control a {cell.recipe['architecture']!r}"
        raise ForeignStudent(f"{own}; keep the architecture of lab.recipe")
    try:
        registry.owner(cell.technique, told.wrap)
    except UsageError as e:
        raise ForeignStudent(str(e)) from e
    if not registry.origin(technique):
        return
    for name in ("steps", "batch", "views"):
        most = TIMES * int(cell.recipe[name])
        if getattr(told, name) > most:
            raise ForeignStudent(
                f"its student took {getattr(told, name):,} {name}, more than {TIMES} times its control's"
            )
    if issubclass(technique, Attack) and technique.holds == "original" and not set(seen.view.split("+")) <= {*KINDS}:
        raise ForeignStudent(f"its student saw views {seen.view!r}; a control has {', '.join(KINDS)}")


def heard(arrays: dict[str, np.ndarray], reported: worker_messages.StudentReport) -> TrainingOutcome:
    """Return the student that a worker sent."""
    report = reported.model_dump()
    return TrainingOutcome(arrays, Report(**report | {"recipe": Recipe(**report["recipe"])}))
