"""What a record keeps of a teacher."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from reports.record import Normalised, Packed, Probe, TeacherInfo, Usability
from teachers.oracle import log_probs, top_classes
from teachers.surface import Surface
from teachers.targets.probe import ProbeResult
from teachers.targets.target import Subject
from teachers.task import Task, known


class Tops(NamedTuple):
    """A teacher's top classes, (N,) uint16, and what its surface shows of the test images."""

    validation: np.ndarray
    test: np.ndarray
    usability: Usability


def tops(subject: Subject, task: Task) -> Tops:
    """Return a teacher's top class of every validation and test image."""
    answers = log_probs(subject.full, task.test)
    usability = usable(subject.surface, answers, known(task.test))
    return Tops(top_classes(subject.full, task.validation), answers.argmax(-1).astype(np.uint16), usability)


def usable(surface: Surface, log_p: np.ndarray, labels: np.ndarray) -> Usability:
    """Return what users of a surface see, of log-probabilities (N, K) about images with these labels."""
    shown = surface(torch.from_numpy(log_p))
    right = Packed.of(shown.labels.numpy() == labels)
    if surface.kind == "label":
        return Usability(correct=right, confidence=None, classes=Packed.of(np.ones(len(labels), np.uint16)))
    confidence = shown.values.amax(-1).exp().numpy().astype(np.float16)
    classes = torch.isfinite(shown.values).sum(-1).numpy().astype(np.uint16)
    return Usability(correct=right, confidence=Packed.of(confidence), classes=Packed.of(classes))


def describe(subject: Subject, task: Task, tops: Tops) -> TeacherInfo:
    """Return what the record keeps of a teacher."""
    teacher = subject.teacher
    return TeacherInfo(
        name=teacher.name,
        sha256=teacher.sha256,
        architecture=teacher.architecture,
        method=teacher.method,
        parameters=teacher.parameters,
        output=(subject.remote.output or "") if subject.remote else teacher.output,
        mean=teacher.mean,
        std=teacher.std,
        bgr=teacher.bgr,
        validated=Packed.of(tops.validation == known(task.validation)),
        correct=Packed.of(tops.test == known(task.test)),
        usability=tops.usability,
    )


def probe_info(found: ProbeResult) -> Probe:
    """Return what the record keeps of a probe."""
    return Probe(
        images=found.images,
        queries=found.queries,
        repeated=Packed.of(found.repeated),
        regrouped=Packed.of(found.regrouped),
        softmaxed=found.softmaxed,
        saturated=found.saturated,
        correct=Packed.of(found.correct),
        normalised=tuple(Normalised(normalize=n, correct=Packed.of(right)) for n, right in found.normalised.items()),
        duplicated=Packed.of(found.duplicated),
    )
