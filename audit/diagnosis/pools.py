"""The images and answers on which CMI is measured."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch

from audit.diagnosis import thumbnails
from audit.plan import measures
from audit.plan.measures import CMI_ENTRIES
from audit.trials.protocol import Experiment
from reports.record import CMIPool, PackedArray, PoolName, Record
from teachers.oracle import at_once
from teachers.targets.target import Target
from teachers.task import Pool, Task, known, stratified
from teachers.views import Viewer, ViewSet


def cmi_pools(target: Target, experiment: Experiment) -> tuple[CMIPool, ...]:
    """Return a teacher's answers for the training, augmented and validation images on which CMI is measured.

    These are its full answers, without the surface and without a guard that acts like one: CMI is not defined on
    truncated answers.
    """
    task = experiment.task
    train, validation = _sample(task.train, len(task.classes)), _sample(task.validation, len(task.classes))
    pools: tuple[tuple[Pool, Literal["raw", "crop"]], ...] = ((train, "raw"), (train, "crop"), (validation, "raw"))
    named = zip(get_args(PoolName), pools, strict=True)
    return tuple(
        _cmi_pool(name, target, pool, view, len(task.classes)) for name, (pool, view) in named if measurable(pool)
    )


def measurable(pool: Pool) -> bool:
    """Whether CMI and Γ can be estimated from a pool."""
    return measures.measurable(np.bincount(known(pool)))


def measured_images(task: Task, remote: bool) -> int:
    """Count the queries that the CMI measurement makes; training images count twice, with and without augmentation.

    A remote teacher's answers for all validation images are stored already, and are not queried again.
    """
    most = CMI_ENTRIES // len(task.classes)
    held = len(task.validation)
    return 2 * min(len(task.train), most) + (0 if remote and held <= most else min(held, most))


def illustrated(record: Record, task: Task) -> Record:
    """Return a record with thumbnails of the validation images in its cluster view; makes no query."""
    if record.clusters is None:
        return record
    images = _sample(task.validation, len(task.classes)).images
    return record.model_copy(update={"clusters": thumbnails.illustrated(record.clusters, images)})


def _sample(pool: Pool, classes: int) -> Pool:
    most = CMI_ENTRIES // classes
    return pool if len(pool) <= most else pool.take(stratified(known(pool), most / len(pool), seed=0))


def _cmi_pool(name: PoolName, target: Target, pool: Pool, view: Literal["raw", "crop"], classes: int) -> CMIPool:
    viewer, labels = Viewer(pool, ViewSet(view, 1)), known(pool)
    answers = np.empty((len(pool), classes), np.float16)
    for index in torch.split(torch.arange(len(pool)), at_once(pool.shape)):
        pixels = viewer(index, torch.zeros_like(index)).mul(255).round().div(255)  # rounded to 8 bits, as in files
        answers[index] = target.whole(pixels).values.numpy().clip(-60_000)
    return CMIPool(name=name, answers=PackedArray.of(answers), labels=PackedArray.of(labels.astype(np.uint16)))
