"""DIST with smoothed labels: what a distillation loss achieves without a teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from attacks.base import Control, Lab
from attacks.logits.dist import DIST
from attacks.losses import supervised
from teachers.surface import Answers
from teachers.task import UNLABELLED
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class DistLS(Control):
    """DIST's loss with smoothed labels in place of the teacher's answers.

    On smoothed labels this loss trains a better student than the cross entropy in as many steps, so a gain over the LS
    student can come from the loss alone.
    """

    name = "dist-ls"
    title = "DIST from the smoothed labels, without a teacher"
    paper = "loss of Huang et al., NeurIPS 2022, arXiv 2205.10536"

    smoothing: float = 0.1
    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 1.0

    @classmethod
    def grid(cls) -> tuple[DistLS, ...]:
        published = cls(beta=2.0, gamma=2.0, temperature=4.0)  # of DIST for CIFAR-100
        return cls(), cls(temperature=4.0), cls(temperature=2.0), cls(beta=2.0, gamma=2.0), published

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop"), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        known = batch.labels != UNLABELLED
        told = Answers("probs", batch.truth(outputs.logits.shape[1], self.smoothing)[known].log())
        dist = DIST(beta=self.beta, gamma=self.gamma, temperature=self.temperature)
        correlated = dist.distilled(outputs.logits[known], replace(batch, answers=told)) if known.any() else 0.0
        return supervised(outputs, batch) + correlated
