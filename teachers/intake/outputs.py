"""Recognise the output type of a checkpoint's network from its answers to some images."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from teachers.intake.assemble import Teacher
from teachers.networks import PreprocessedNetwork
from teachers.numbers import WHOLE, LogProbabilities, Numbers, finite, numbers


def outputs(teacher: Teacher, images: Tensor) -> Numbers | None:
    """Recognise a network's output type by its answers to images (n, C, H, W); None if no answer is a finite row.

    Raises RefusedInput if they are independent scores in [0, 1], one per class.
    """
    with torch.no_grad():
        raw: Tensor = teacher.here.eval()(images)
    rows = finite(raw) if raw.ndim == 2 else None
    return None if rows is None or not len(rows) else numbers(rows, teacher.name)


def as_logits(teacher: Teacher, found: Numbers | None) -> Teacher:
    """Return a teacher whose network gives logits, up to a constant, whatever its output type is."""
    network = teacher.network
    if found is None or not isinstance(network, PreprocessedNetwork):
        return teacher
    teacher = replace(teacher, output=found.output)
    if found.output not in WHOLE:
        return teacher
    return replace(teacher, network=network.around(LogProbabilities(network.network, found, teacher.name)))
