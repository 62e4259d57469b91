"""CMIM: train an undistillable teacher by minimising CMI over the temperature spectrum (arXiv 2507.00012)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from teachers.cmi_loss import cmi_loss
from teachers.training import Batch, Outputs


@dataclass(frozen=True, kw_only=True)
class CMIM:
    """Minimise CE + λ · mean over temperatures of T² · CMI_T.

    A reconstruction: the paper maximises over the power parameter 1/T and replaces the maximum by an average over a
    few values; which values, and its λ, are not public. Class means are those of the batch.
    """

    name = "cmim"
    paper = "Ye, Hamidi, Yang: Towards Undistillable Models by Minimizing CMI, arXiv 2507.00012 (reconstruction)"
    weight: float = 1.0  # λ
    temperatures: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 20.0)

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        spectrum = [t * t * cmi_loss(outputs.logits, batch.labels, t) for t in self.temperatures]
        return F.cross_entropy(outputs.logits, batch.labels) + self.weight * torch.stack(spectrum).mean()
