"""CE: a student trained on the labels only, without smoothing."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attacks.base import Control, Lab
from attacks.losses import supervised
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class CE(Control):
    """Cross entropy with the labels."""

    name = "ce"
    title = "Student trained with the labels and no teacher"
    paper = "the plain student of Hinton, Vinyals & Dean 2015, arXiv 1503.02531"

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop"), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return supervised(outputs, batch)
