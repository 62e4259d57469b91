"""Backward-pass KD without the teacher's gradients, which forward differences replace (after Jafari et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.base import Lab
from attacks.gradients.auxiliary import Auxiliary
from teachers.surface import Answers


@dataclass(frozen=True, kw_only=True)
class BackwardKDZO(Auxiliary):
    """Maximise KL(p_t ‖ p_s): the student's part of the gradient is exact, the teacher's is measured in m directions.

    Of the teacher's part only its projection Σ_k v_k [D(x + v_k) − D(x)] / |v_k|² is known, where D holds the student's
    answer fixed and v_k = εu_k is clipped so that pixels stay in [0, 1]. The factor d/m that would make it unbiased is
    left out: it would make the noise much larger than the student's part.
    """

    name = "backward-kd-zo"
    title = "Distillation on images that maximise the difference, from answers alone"
    paper = "after Jafari, Rezagholizadeh & Ghodsi 2023, arXiv 2301.12006"
    needs = "probs"
    holds = "original"
    views = "crop"

    directions: int = 4  # m
    epsilon: float = 0.1  # Euclidean length of a trial step over all pixels

    @property
    def price(self) -> int:
        return self.ascent * (self.directions + 1)

    def slope(self, lab: Lab, network: nn.Module, x: Tensor, answers: Answers, chance: torch.Generator) -> Tensor:
        x = x.detach().requires_grad_()
        log_s = F.log_softmax(network(x), -1)
        base = divergence(answers, log_s)
        (total,) = torch.autograd.grad(base.sum(), x)
        for u in orthonormal(self.directions, x, chance):
            trial = (x + self.epsilon * u).clamp(0, 1).detach()
            told, way = lab.oracle.estimate(trial).to(x.device), trial - x.detach()
            rise = (divergence(told, log_s) - base).detach() / way.square().sum((1, 2, 3)).clamp(min=1e-20)
            total = total + rise[:, None, None, None] * way
        return total


def divergence(answers: Answers, log_s: Tensor) -> Tensor:
    """Return KL(p_t ‖ p_s) per image, (B,)."""
    return F.kl_div(log_s, answers.log_probs().exp(), reduction="none").sum(-1)


def orthonormal(count: int, like: Tensor, chance: torch.Generator) -> Tensor:
    """Draw orthonormal directions for every image, at most one per pixel value: (m, B, C, H, W)."""
    drawn = torch.randn((len(like), like[0].numel(), count), generator=chance, dtype=like.dtype)
    directions: Tensor = torch.linalg.qr(drawn).Q.movedim(-1, 0).reshape(-1, *like.shape)
    return directions.to(like.device)
