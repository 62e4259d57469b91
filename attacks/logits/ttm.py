"""TTM: temper only the teacher, by a power transform of its answer (Zheng & Yang, ICLR 2024, arXiv 2402.11148)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.losses import soft_target, supervised
from teachers.fidelity import Fidelity
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class TTM(Attack):
    """CE + β KL(p_t^γ / U ‖ p_s) with U = Σ_k p_t[k]^γ; if `weighted` (WTTM), every image's KL is multiplied by its U.

    U grows with the spread of an answer: WTTM gives most weight to the images of which the teacher is least sure.
    γ above 1, which the paper does not use, sharpens answers that a teacher made too flat.
    """

    name = "ttm"
    title = "Transformed teacher matching"
    paper = "Zheng & Yang, ICLR 2024, arXiv 2402.11148"
    published = "CIFAR-100, ResNet-32x4 to 8x4: 76.17 %, KD 73.33 %, without teacher 72.50 % (authors' README)"
    fidelity = Fidelity(
        source="zkxufo/TTM README.md",
        default=True,
        note="the formula matches, weighted too; exponents above 1 are ours",
    )
    needs = "probs"
    holds = "original"
    views = "crop"

    gamma: float = 0.1  # exponent, the inverse of a temperature
    beta: float = 45.0
    weighted: bool = False

    @classmethod
    def grid(cls) -> tuple[TTM, ...]:
        softer = cls(gamma=0.2, beta=4.0, weighted=True), cls(gamma=0.5, beta=4.0), cls(gamma=0.25, beta=16.0)
        return cls(), *softer, cls(gamma=2.0, beta=4.0), cls(gamma=4.0, beta=4.0), cls(beta=0.0)

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return supervised(outputs, batch) + self.beta * self.distilled(outputs.logits, batch)

    def distilled(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the divergence from the transformed teacher, averaged over the batch."""
        target = soft_target(batch, 1 / self.gamma)
        divergence = F.kl_div(F.log_softmax(logits, -1), target, reduction="none").sum(-1)  # (B,)
        if self.weighted:
            divergence = divergence * soft_target(batch, 1.0).pow(self.gamma).sum(-1)
        return divergence.mean()
