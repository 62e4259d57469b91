"""Train with the cross entropy: the ordinary teacher."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from teachers.training import Batch, Outputs


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Minimise the cross entropy with the labels."""

    name = "plain"
    paper = "the ordinary teacher; positive control of every audit"

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return F.cross_entropy(outputs.logits, batch.labels)
