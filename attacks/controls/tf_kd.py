"""Tf-KD: a virtual teacher that is almost certain of the label (Yuan et al., CVPR 2020, arXiv 1909.11723)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from attacks.base import Control, Lab
from attacks.losses import kd, supervised
from teachers.fidelity import PUBLIC, Fidelity
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class TfKD(Control):
    """(1 − α) CE + α T² KL(v^T ‖ p_s^T), v(label) = 0.99 and the rest uniform: distillation without a teacher.

    v^T is v^(1/T) renormalised, as in the paper's text; its public code uses the softmax of v/T instead.
    """

    name = "tf-kd"
    title = "Teacher-free distillation by a virtual teacher (Tf-KD_reg)"
    paper = "Yuan, Tay, Li, Wang & Feng, CVPR 2020, arXiv 1909.11723"
    published = "CIFAR-100, ResNeXt-29 taught by itself: 82.08 %, alone 81.03 % (authors' README)"
    fidelity = Fidelity(
        source=PUBLIC,
        note="the loss is the paper's; public code softens the virtual teacher otherwise",
    )

    temperature: float = 20.0
    weight: float = 0.1  # α
    certainty: float = 0.99

    @classmethod
    def grid(cls) -> tuple[TfKD, ...]:
        return cls(), cls(weight=0.02), cls(weight=0.02, temperature=5.0), cls(weight=0.05)

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop"), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        target = self.virtual(batch.labels, outputs.logits.shape[1])
        distilled = kd(outputs.logits, target, self.temperature)
        return (1 - self.weight) * supervised(outputs, batch) + self.weight * distilled

    def virtual(self, labels: Tensor, classes: int) -> Tensor:
        """Return the virtual teacher's answer at the temperature, (B, K)."""
        hot = F.one_hot(labels, classes).float()
        v = hot * self.certainty + (1 - hot) * (1 - self.certainty) / (classes - 1)
        return F.softmax(v.log() / self.temperature, -1)
