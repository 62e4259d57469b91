"""Soft KD: match the teacher's softened probabilities (Hinton, Vinyals & Dean, arXiv 1503.02531)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attacks.base import Attack, Lab
from attacks.losses import kd, soft_target, supervised
from teachers.fidelity import Fidelity
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class SoftKD(Attack):
    """(1 − α) CE + α T² KL(p_t^T ‖ p_s^T)."""

    name = "soft-kd"
    title = "Knowledge distillation on softened probabilities"
    paper = "Hinton, Vinyals & Dean 2015, arXiv 1503.02531"
    fidelity = Fidelity(source="megvii-research/mdistiller mdistiller/engine/cfg.py", default=True)
    needs = "probs"
    holds = "original"
    views = "crop"

    temperature: float = 4.0
    weight: float = 0.9  # α

    @classmethod
    def grid(cls) -> tuple[SoftKD, ...]:
        return cls(), cls(temperature=2.0), cls(temperature=1.0), cls(temperature=8.0), cls(weight=0.1), cls(weight=0.0)

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        distilled = kd(outputs.logits, soft_target(batch, self.temperature), self.temperature)
        return (1 - self.weight) * supervised(outputs, batch) + self.weight * distilled
