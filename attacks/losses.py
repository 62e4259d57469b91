"""Losses shared by several techniques; each is summed over classes and averaged over the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from teachers.task import UNLABELLED
from teachers.training import Batch, Objective, Outputs


def kd(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Return T² KL(target ‖ softmax(z/T)), target (B, K) already at temperature T (Hinton et al. 2015, section 2).

    Its gradient with respect to the logits is T · (softmax(z/T) − target) / B.
    """
    log_s = F.log_softmax(logits / temperature, -1)
    return temperature**2 * F.kl_div(log_s, target, reduction="batchmean")


def kl(log_target: Tensor, log_student: Tensor) -> Tensor:
    """Return KL(target ‖ student) of log-distributions (B, K), summed over classes and averaged over the batch.

    Entries of −inf in the target, which an API did not show, contribute nothing.
    """
    return F.kl_div(log_student, log_target.exp(), reduction="batchmean")


def target_class(batch: Batch) -> Tensor:
    """Return the label of every image, or the teacher's top class if it is unknown, (B,)."""
    assert batch.answers is not None
    return torch.where(batch.labels == UNLABELLED, batch.answers.labels, batch.labels)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return −Σ target · log softmax(z), averaged over the rows of the target that are not all zero."""
    rows = (target.sum(-1) > 0).sum().clamp(min=1)
    return -(target * F.log_softmax(logits, -1)).sum() / rows


def supervised(outputs: Outputs, batch: Batch) -> Tensor:
    """Return the cross entropy with the known labels."""
    return cross_entropy(outputs.logits, batch.truth(outputs.logits.shape[1]))


def rising(distilled: Callable[[Tensor, Batch], Tensor], warmup: float, steps: int) -> Objective:
    """Return CE + w · distilled(logits, batch); w rises linearly from 0 to 1 in the first `warmup` of the steps."""
    until = max(1, round(warmup * steps))

    def loss(outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return supervised(outputs, batch) + min(1.0, (step + 1) / until) * distilled(outputs.logits, batch)

    return loss


def soft_target(batch: Batch, temperature: float) -> Tensor:
    """Return the teacher's P^(1/T), renormalised, (B, K)."""
    assert batch.answers is not None
    return batch.answers.log_probs(temperature).exp()


def standardise(logits: Tensor, eps: float = 1e-7) -> Tensor:
    """Return z-scores over classes, (B, K)."""
    centred = logits - logits.mean(-1, keepdim=True)
    return centred / (eps + torch.std(logits, -1, keepdim=True))
