"""CKD: match the differences between images, not the images (Wilf et al., WACV 2025, arXiv 2311.02253)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attacks.base import Attack, Lab
from attacks.losses import supervised
from teachers.fidelity import Fidelity
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class CKD(Attack):
    """CE + w mean_{i≠j} ‖(z_s[i] − z_s[j]) − (z_t[i] − z_t[j])‖² / 2K, logits centred over classes.

    Any component common to all answers of a teacher cancels; centring removes each answer's additive constant. Squares
    are summed over classes, and 1 / 2K is the scale of T² KL as T grows.
    """

    name = "ckd"
    title = "Comparative knowledge distillation"
    paper = "Wilf, Xu, Liang, Obolenskiy, Fried & Morency, WACV 2025, arXiv 2311.02253"
    fidelity = Fidelity(note="no public text gives its weight")
    needs = "probs"
    holds = "original"
    views = "crop"

    weight: float = 1.0

    @classmethod
    def grid(cls) -> tuple[CKD, ...]:
        return cls(), cls(weight=0.3), cls(weight=3.0), cls(weight=10.0), cls(weight=0.0)

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        assert batch.answers is not None
        centred = outputs.logits - outputs.logits.mean(-1, keepdim=True)
        apart = between_pairs(centred - batch.answers.logits()) / (2 * centred.shape[1])
        return supervised(outputs, batch) + self.weight * apart


def between_pairs(rows: Tensor) -> Tensor:
    """Return the mean of ‖r_i − r_j‖² over all pairs of different rows: twice the variance, summed over columns."""
    return 2 * (rows - rows.mean(0)).square().sum() / max(1, len(rows) - 1)
