"""Label KD on mixed views: the teacher labels mixtures of two images (cf. Beyer et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.losses import supervised
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class LabelMixup(Attack):
    """(1 − α) CE with the mixed truth + α CE with the teacher's label of the mix."""

    name = "label-mixup"
    title = "Label-only distillation on mixup views"
    paper = "Beyer et al., A good teacher is patient and consistent, CVPR 2022, arXiv 2106.05237 (with labels alone)"
    needs = "label"
    holds = "original"
    views = "mixup"

    weight: float = 0.5  # α

    @classmethod
    def grid(cls) -> tuple[LabelMixup, ...]:
        return cls(), cls(weight=1.0), cls(weight=0.25), cls(weight=0.75)

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("mixup", lab.answers("mixup")), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        assert batch.answers is not None
        told = F.cross_entropy(outputs.logits, batch.answers.labels)
        return (1 - self.weight) * supervised(outputs, batch) + self.weight * told
