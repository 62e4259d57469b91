"""Backward-pass KD without a backward pass: slopes by forward differences (after Jafari et al. 2023, 2301.12006)."""

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
    """Climb KL(p_t ‖ p_s): the student's part of the slope is exact, the teacher's is seen along m directions.

    Of the teacher's part only its projection Σ_k v_k [D(x + v_k) − D(x)] / |v_k|² is known, D with the student's answer
    held still, v_k = εu_k cut where pixels would leave [0, 1]. Scaled by d/m, to be unbiased, its noise would
    drown the student's part.
    """

    name = "backward-kd-zo"
    title = "Distillation on images that maximise the difference, from answers alone"
    paper = "after Jafari, Rezagholizadeh & Ghodsi 2023, arXiv 2301.12006"
    needs = "probs"
    holds = "original"
    views = "crop"

    directions: int = 4  # m
    epsilon: float = 0.1  # length of a trial step, all pixels together

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
    """Return KL(p_t ‖ p_s) image by image, (B,)."""
    return F.kl_div(log_s, answers.log_probs().exp(), reduction="none").sum(-1)


def orthonormal(count: int, like: Tensor, chance: torch.Generator) -> Tensor:
    """Draw orthonormal directions, as many as there are pixels at most, for every image: (m, B, C, H, W)."""
    drawn = torch.randn((len(like), like[0].numel(), count), generator=chance, dtype=like.dtype)
    directions: Tensor = torch.linalg.qr(drawn).Q.movedim(-1, 0).reshape(-1, *like.shape)
    return directions.to(like.device)
