"""Nasty teacher: self-undermining knowledge distillation (arXiv 2105.07381)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from teachers.fidelity import PUBLIC, Fidelity
from teachers.methods.base import Method, NotNegative, Positive, TeacherTraining, divergence, validation_logits
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class Nasty(Method):
    """Minimise CE − ω τ² KL(softmax(z/τ) ‖ softmax(v/τ)), v the logits of a frozen ordinary teacher.

    The divergence is summed over classes and averaged over the batch, as in the authors' code (a mean over classes too
    makes a far milder teacher). Runs differ in how nasty the teacher becomes: `measure` returns the divergence reached.
    """

    name = "nasty"
    title = "keep the accuracy, disagree with an ordinary teacher in everything else"
    paper = "Ma, Chen, Hu, You, Xie & Wang, ICLR 2021, arXiv 2105.07381, section 3.2"
    fidelity = Fidelity(source=PUBLIC, note="the direction of KL matches")
    looks = True

    weight: NotNegative = 0.015  # ω; the paper: 0.04 with τ = 4 for 10 classes, 0.005 with τ = 20 for 100
    temperature: Positive = 20.0  # τ

    def teach(self, trainer: TeacherTraining) -> Student:
        return trainer.fit(Undermine(self, trainer.ordinary()))

    def measure(self, trainer: TeacherTraining, network: nn.Module) -> dict[str, float]:
        """Return the divergence from the ordinary teacher on validation images, in nats, at τ and at 1."""
        own, normal = validation_logits(trainer, network), validation_logits(trainer, trainer.ordinary())
        return {
            f"KL to the ordinary teacher at temperature {T:g}": float(divergence(own, normal, T))
            for T in sorted({1.0, self.temperature})
        }


@dataclass(frozen=True)
class Undermine:
    """The loss, which uses an ordinary teacher's answers."""

    method: Nasty
    ordinary: nn.Module

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        with torch.no_grad():
            normal = self.ordinary(batch.x)
        temperature = self.method.temperature
        apart = divergence(outputs.logits, normal, temperature)
        return F.cross_entropy(outputs.logits, batch.labels) - self.method.weight * temperature**2 * apart
