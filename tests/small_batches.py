"""Logits and batches of a few rows, in double precision, against which formulas are proved."""

import torch
from torch.nn import functional as F

from teachers.surface import Answers
from teachers.training import Batch

B, K = 7, 5


def logits(seed: int) -> torch.Tensor:
    return torch.randn(B, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def batch(seed: int = 0, labels: list[int] | None = None) -> Batch:
    y = torch.tensor([0, 1, 2, 3, 4, 0, 1] if labels is None else labels)
    return Batch(torch.zeros(B, 1, 2, 2), y, Answers("probs", F.log_softmax(logits(seed + 100), -1)))
