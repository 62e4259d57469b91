"""MSE: regress on the teacher's logits (Ba & Caruana, NeurIPS 2014; Kim et al., IJCAI 2021, arXiv 2105.08919)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attacks.base import Attack, Lab
from attacks.losses import supervised
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class MSE(Attack):
    """CE + w ‖z_s − z_t‖² / 2K, both centred over classes: log-probabilities give logits up to a constant.

    Squares are summed over classes; 1 / 2K makes w = 1 the limit of T² KL as T grows (Hinton et al. 2015, section 2.1).
    """

    name = "mse"
    title = "Regression on logits"
    paper = "Kim, Oh, Kim, Cho & Yun, IJCAI 2021, arXiv 2105.08919"
    needs = "probs"
    holds = "original"
    views = "crop"

    weight: float = 1.0

    @classmethod
    def grid(cls) -> tuple[MSE, ...]:
        return cls(), cls(weight=0.3), cls(weight=3.0), cls(weight=10.0), cls(weight=0.0)

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return supervised(outputs, batch) + self.weight * squared(outputs, batch)


def squared(outputs: Outputs, batch: Batch) -> Tensor:
    """Return ‖z_s − z_t‖² / 2K, averaged over the batch."""
    assert batch.answers is not None
    centred = outputs.logits - outputs.logits.mean(-1, keepdim=True)
    return (centred - batch.answers.logits()).square().sum(-1).mean() / (2 * centred.shape[1])
