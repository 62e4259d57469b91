"""Conditional mutual information I(X; Ŷ | Y) as a differentiable loss (MCMI, arXiv 2401.08732; CMIM, 2507.00012)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cmi_loss(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean over a batch of KL(P ‖ Q_y) in nats, P = softmax(z/T), Q_y the mean of P over label y.

    Q is held fixed for the gradient: it is the minimiser of the same expression, so nothing is lost (the envelope
    theorem; the variational form of CMIM).
    """
    log_p = F.log_softmax(logits / temperature, -1)  # (B, K)
    p = log_p.exp()
    same = (labels[:, None] == labels[None, :]).to(p.dtype)  # (B, B)
    q = (same @ p.detach()) / same.sum(-1, keepdim=True)
    return (p * (log_p - torch.log(q.clamp(min=1e-12)))).sum(-1).mean()
