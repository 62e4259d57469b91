"""Ranks alone: a teacher that bends its answers by any increasing function, another one for every image."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.adaptive.decoders.decoding import Decoding, rows, unchanged

LEAD = 1e-3  # nats by which the top class stays above the others, at least


def ranks(log_probs: Tensor, labels: Tensor) -> Decoding:
    """Return answers whose non-target classes hold, by rank, the mean sorted logits of all rows.

    The top class keeps its probability, or more where it must to stay on top, and the others share the rest of it
    (quantile normalisation): rows that agree in top probability and in the order of the classes become equal. Classes
    that a row ties share the mean of their ranks. Rows that hide a class stay as they are.
    """
    full = rows(log_probs, labels).full
    if log_probs.shape[1] < 3 or not full.any():
        return unchanged(log_probs)
    values, order = log_probs[full].double().sort(dim=1, descending=True, stable=True)
    tail = values[:, 1:]  # (R, K − 1), falling
    curve = (tail - tail.mean(1, keepdim=True)).mean(0)
    level = _tied(curve.expand_as(tail), tail).log_softmax(1) + tail.logsumexp(1, keepdim=True)
    new = torch.cat([torch.maximum(values[:, :1], level.amax(1, keepdim=True) + LEAD), level], 1).log_softmax(1)
    decoded = log_probs.clone()
    decoded[full] = torch.zeros_like(values).scatter(1, order, new).to(log_probs)
    if torch.allclose(decoded[full], log_probs[full], atol=1e-3):
        return unchanged(log_probs)
    return Decoding(decoded, "the order of the non-target classes alone")


def _tied(curve: Tensor, falling: Tensor) -> Tensor:
    """Return the curve (R, M), averaged over the places that hold equal values of `falling` (R, M)."""
    rising = (-falling).contiguous()
    first = torch.searchsorted(rising, rising, right=False)
    behind = torch.searchsorted(rising, rising, right=True)
    sums = torch.nn.functional.pad(curve.cumsum(1), (1, 0))
    return (sums.gather(1, behind) - sums.gather(1, first)) / (behind - first)
