"""Whether a teacher is fit to be audited: better than chance, and with its classes in the order of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from audit.execution.metering import blocks
from audit.execution.runner import TrialRunner
from audit.recording.teacher import Predictions, predictions
from audit.trials.protocol import Experiment
from teachers.errors import RefusedInput
from teachers.targets.identify import refuse_other_order
from teachers.targets.target import Target, refuse_chance
from teachers.task import Task
from teachers.views import ViewSet


def examined(target: Target, task: Task) -> Predictions:
    """Return a teacher's top classes of validation and test images.

    Raises RefusedInput if those of the validation images are at chance level or in another order.
    """
    found = predictions(target, task)
    refuse(target, found.validation, task)
    return found


def refuse(target: Target, top: np.ndarray, task: Task) -> None:
    """Raise RefusedInput if a teacher's top classes (M,) of the validation images are at chance or in another order."""
    refuse_other_order(target, top, task)
    if not target.teacher.synthetic:
        refuse_chance(top, task, target.teacher.name)


def seems_unfit(runner: TrialRunner, target: Target, experiment: Experiment, asked: Sequence[ViewSet]) -> bool:
    """Whether a teacher's first answers to the attacker's views would be refused: then validation images decide early.

    So a teacher that is unfit is not paid for all views, and one that answers training images otherwise is not refused.
    """
    pool = experiment.pool
    for views in asked:
        block, rows, pixels = next(blocks(pool, views, np.arange(len(pool))))
        labelled = np.intersect1d(rows, pool.labelled)
        if views.mixes or not len(labelled):
            continue
        answers = runner.cached_teacher(target).answers(block, rows, pixels)
        tops = answers.labels.numpy().astype(np.uint16)[labelled]
        try:
            refuse(target, tops, replace(experiment.task, validation=pool.take(labelled)))
        except RefusedInput:
            return True
        return False
    return False
