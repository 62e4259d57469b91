"""A teacher that is itself a student of the ordinary one (Hinton et al. 2015; born again, Furlanello et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from teachers.methods.base import Method, Positive, Share, TeacherTraining, divergence
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class Distilled(Method):
    """Minimise (1 − w) CE + w T² KL(softmax(v/T) ‖ softmax(z/T)), v the logits of the ordinary teacher."""

    name = "distilled"
    title = "a student of the ordinary teacher, of the same architecture"
    paper = "Hinton, Vinyals & Dean 2015, arXiv 1503.02531; Furlanello et al., ICML 2018, arXiv 1805.04770"
    looks = True

    temperature: Positive = 4.0
    weight: Share = 0.9

    def teach(self, trainer: TeacherTraining) -> Student:
        return trainer.fit(Imitate(self, trainer.ordinary()))


@dataclass(frozen=True)
class Imitate:
    """The loss, which uses an ordinary teacher's answers."""

    method: Distilled
    ordinary: nn.Module

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        with torch.no_grad():
            known = self.ordinary(batch.x)
        temperature, weight = self.method.temperature, self.method.weight
        apart = divergence(known, outputs.logits, temperature)
        return (1 - weight) * F.cross_entropy(outputs.logits, batch.labels) + weight * temperature**2 * apart
