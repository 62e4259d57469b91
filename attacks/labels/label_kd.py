"""Label KD: train on the teacher's top class only, on shifted and cropped views."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Lab
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class LabelKD(Attack):
    """Cross entropy with the teacher's label, smoothed by ε, over all images, labelled or not."""

    name = "label-kd"
    title = "Label-only distillation on crops"
    paper = "Tramèr et al., Stealing Machine Learning Models, USENIX Security 2016, section 6 (label-only retraining)"
    needs = "label"
    holds = "original"
    views = "crop"

    smoothing: float = 0.1

    @classmethod
    def grid(cls) -> tuple[LabelKD, ...]:
        return cls(), cls(smoothing=0.0), cls(smoothing=0.05), cls(smoothing=0.2)

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        assert batch.answers is not None
        return F.cross_entropy(outputs.logits, batch.answers.labels, label_smoothing=self.smoothing)
