"""What a record keeps of a teacher."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from reports.record import NormalisationTrial, PackedArray, Probe, TeacherInfo, Usability
from teachers.oracle import log_probs
from teachers.surface import Surface
from teachers.targets import questions
from teachers.targets.probe import ProbeResult
from teachers.targets.target import Target
from teachers.task import Task, known


class Predictions(NamedTuple):
    """A teacher's top classes, (N,) uint16, what its surface shows of the test images, and some answers."""

    validation: np.ndarray
    test: np.ndarray
    usability: Usability
    probed: np.ndarray  # (n, K) log-probabilities of the validation images that a probe asks about


def predictions(target: Target, task: Task) -> Predictions:
    """Return a teacher's top class of every validation and test image."""
    answers = log_probs(target.full, task.test)
    usability = usable(target.surface, answers, known(task.test))
    held = log_probs(target.full, task.validation)
    validation, test = (some.argmax(-1).astype(np.uint16) for some in (held, answers))
    return Predictions(validation, test, usability, held[questions.drawn(len(held))[: questions.BATCH]])


def usable(surface: Surface, log_p: np.ndarray, labels: np.ndarray) -> Usability:
    """Return what users of a surface see, of log-probabilities (N, K) about images with these labels."""
    shown = surface(torch.from_numpy(log_p))
    right = PackedArray.of(shown.labels.numpy() == labels)
    if surface.kind == "label":
        return Usability(correct=right, confidence=None, classes=PackedArray.of(np.ones(len(labels), np.uint16)))
    confidence = shown.values.amax(-1).exp().numpy().astype(np.float16)
    classes = torch.isfinite(shown.values).sum(-1).numpy().astype(np.uint16)
    return Usability(correct=right, confidence=PackedArray.of(confidence), classes=PackedArray.of(classes))


def describe(target: Target, task: Task, tops: Predictions) -> TeacherInfo:
    """Return what the record keeps of a teacher."""
    teacher = target.teacher
    return TeacherInfo(
        name=teacher.name,
        sha256=teacher.sha256,
        architecture=teacher.architecture,
        method=teacher.method,
        network_parameters=teacher.parameters,
        output=(target.remote.output or "") if target.remote else teacher.output,
        mean=teacher.mean,
        std=teacher.std,
        bgr=teacher.bgr,
        validation_correct=PackedArray.of(tops.validation == known(task.validation)),
        test_correct=PackedArray.of(tops.test == known(task.test)),
        usability=tops.usability,
    )


def probe_info(found: ProbeResult) -> Probe:
    """Return what the record keeps of a probe."""
    return Probe(
        images=found.images,
        queries=found.queries,
        repeated=PackedArray.of(found.repeated),
        regrouped=PackedArray.of(found.regrouped),
        softmaxed=found.softmaxed,
        saturated=found.saturated,
        correct=PackedArray.of(found.correct),
        normalised=tuple(
            NormalisationTrial(normalize=n, correct=PackedArray.of(right)) for n, right in found.normalised.items()
        ),
        duplicated=PackedArray.of(found.duplicated),
    )
