"""Re-optimised KD: tune temperature, weight and trust together; ignore the teacher on images where it errs.

The trust follows conditional teacher-student learning (Meng et al., ICASSP 2019, arXiv 1904.12399).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.losses import soft_target
from teachers.task import UNLABELLED
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class Reopt(Attack):
    """Mean over images of (1 − α_i) CE_i + α_i T² KL_i; α_i = α, or 0 if the teacher contradicts a known label."""

    name = "reopt"
    title = "Re-optimised knowledge distillation with trust by image"
    paper = "Meng, Li, Zhao & Gong, ICASSP 2019, arXiv 1904.12399; Hinton, Vinyals & Dean 2015, arXiv 1503.02531"
    needs = "probs"
    holds = "original"
    views = "crop"

    temperature: float = 4.0
    weight: float = 0.5  # α
    trust: bool = True  # whether to ignore the teacher where it contradicts a known label

    @classmethod
    def grid(cls) -> tuple[Reopt, ...]:
        return cls(), cls(temperature=3.0, weight=0.8), cls(temperature=2.0), cls(weight=0.1), cls(weight=0.0)

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        T, truth = self.temperature, batch.truth(outputs.logits.shape[1])
        weight = self.weights(batch)  # (B,)
        supervised = -(truth * F.log_softmax(outputs.logits, -1)).sum(-1)
        log_s = F.log_softmax(outputs.logits / T, -1)
        distilled = T**2 * F.kl_div(log_s, soft_target(batch, T), reduction="none").sum(-1)
        labelled = (truth.sum(-1) > 0).sum().clamp(min=1)
        return ((1 - weight) * supervised).sum() / labelled + (weight * distilled).mean()

    def weights(self, batch: Batch) -> Tensor:
        """Return α of every image, (B,)."""
        assert batch.answers is not None
        refuted = (batch.labels != UNLABELLED) & (batch.labels != batch.answers.labels)
        return self.weight * (1 - (refuted & self.trust).float())
