"""Train with the cross entropy: the ordinary teacher."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from teachers.methods.base import Method, TeacherTraining
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class Plain(Method):
    """Minimise the cross entropy with the labels."""

    name = "plain"
    title = "the cross entropy with the labels: the ordinary teacher"
    paper = "the positive control of every audit"

    def teach(self, trainer: TeacherTraining) -> Student:
        return trainer.fit(self)

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return F.cross_entropy(outputs.logits, batch.labels)
