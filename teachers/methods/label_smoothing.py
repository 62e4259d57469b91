"""Train with label smoothing (Szegedy et al. 2016; Müller et al. 2019 on its effect on distillation)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from teachers.methods.base import Method, Share, TeacherTraining
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class LabelSmoothing(Method):
    """Minimise the cross entropy with labels mixed with the uniform distribution over all K classes, ε/K each."""

    name = "label-smoothing"
    title = "the cross entropy with smoothed labels"
    paper = "Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7"
    smoothing: Share = 0.1

    def teach(self, trainer: TeacherTraining) -> Student:
        return trainer.fit(self)

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return F.cross_entropy(outputs.logits, batch.labels, label_smoothing=self.smoothing)
