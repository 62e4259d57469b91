"""LS: a student trained with label smoothing, the main no-teacher baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import Control, Lab
from attacks.losses import cross_entropy
from teachers.training import Batch, Outputs, Student

SWEEP = (0.1, 0.0, 0.05, 0.2, 0.3, 0.02, 0.15, 0.01)  # smoothings tried, as many as the settings of an attack


@dataclass(frozen=True, kw_only=True)
class LS(Control):
    """The LS student: cross entropy with labels smoothed by ε/K on every class, on views of kind `view`.

    ε = 0 gives the CE student. `view` matches the control to an attack that trains on other views; if the recipe adds
    heads, to match an attack that has them, each head learns the same labels.
    """

    name = "ls"
    title = "Student trained with label smoothing and no teacher"
    paper = "Szegedy et al., CVPR 2016, section 7; as the reference of CMIM, arXiv 2507.00012"

    smoothing: float = 0.1
    view: str = "crop"

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream(self.view), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        truth = batch.truth(outputs.logits.shape[1], self.smoothing)
        return torch.stack([cross_entropy(out, truth) for out in (outputs.logits, *outputs.heads)]).sum()
