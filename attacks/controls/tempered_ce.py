"""Tempered CE: the cross entropy at a temperature, which is what soft KD is where the teacher knows labels alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attacks.base import Control, Lab
from attacks.losses import cross_entropy
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class TemperedCE(Control):
    """T² CE(z/T, y), y smoothed by ε/K on every class: what a temperature does to a loss without a teacher.

    Its gradient is T · (softmax(z/T) − y), averaged over the batch.
    """

    name = "tempered-ce"
    title = "Student trained with the labels at a temperature and no teacher"
    paper = "objective of Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 2, with labels as soft targets"

    temperature: float = 2.0
    smoothing: float = 0.0

    @classmethod
    def grid(cls) -> tuple[TemperedCE, ...]:
        return cls(), cls(temperature=4.0), cls(smoothing=0.1), cls(temperature=4.0, smoothing=0.1)

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop"), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        truth = batch.truth(outputs.logits.shape[1], self.smoothing)
        return self.temperature**2 * cross_entropy(outputs.logits / self.temperature, truth)
