"""MKD: transform the teacher's answers by a learned Markov kernel for each class (Yang & Ye, ECCV 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.losses import kd, soft_target, supervised, target_class
from teachers.fidelity import PUBLIC, Fidelity
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class MKD(Attack):
    """(1 − α) CE + α T² KL(M_yᵀ p_t^T ‖ p_s^T), M_y = softmax over rows of s_y I + U_y V_yᵀ.

    The kernels minimise this divergence for the present student, and the student for the present kernels.
    """

    name = "mkd"
    title = "Markov knowledge distillation"
    paper = "Yang & Ye, Markov knowledge distillation, ECCV 2024"
    fidelity = Fidelity(
        source=PUBLIC,
        default=False,
        note="the diagonal of the authors' kernels starts at s = 1, near uniform; ours at a mass of 0.9 or 0.999",
    )
    needs = "probs"
    holds = "original"
    views = "crop"

    temperature: float = 4.0
    weight: float = 0.9  # α
    rank: int = 3  # columns of U and V
    rate: float = 0.01  # the kernels' Adam learns at this fraction of the student's rate
    stays: float = 0.9  # mass on the diagonal of the initial kernels

    @classmethod
    def grid(cls) -> tuple[MKD, ...]:
        warmer = cls(temperature=2.0), cls(temperature=2.0, stays=0.999)
        return cls(), cls(stays=0.999), *warmer, cls(weight=0.1), cls(weight=0.0)

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop", lab.answers("crop")), Markov(self, lab))


class Markov:
    """The objective of the student and the kernels, as one scalar."""

    def __init__(self, attack: MKD, lab: Lab) -> None:
        k = lab.classes
        drawn = torch.randn((k, k, attack.rank), generator=torch.Generator().manual_seed(lab.seed))
        start = math.log(max(k - 1, 1) * attack.stays / (1 - attack.stays))
        # V starts at zero, so that all kernels start equal; U must not start at zero, or neither would learn.
        self._s = torch.full((k,), start, device=lab.device, requires_grad=True)
        self._u = drawn.to(lab.device).requires_grad_()
        self._v = torch.zeros_like(drawn, device=lab.device).requires_grad_()
        self._attack, self._lr = attack, attack.rate * lab.recipe.lr

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        T, weight = self._attack.temperature, self._attack.weight
        target = self.target(soft_target(batch, T), target_class(batch))
        student = (1 - weight) * supervised(outputs, batch) + weight * kd(outputs.logits, target.detach(), T)
        return student + kd(outputs.logits.detach(), target, T)

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self._lr)

    def parameters(self) -> list[Tensor]:
        return [self._s, self._u, self._v]

    def kernel(self, y: Tensor) -> Tensor:
        """Return the right-stochastic kernels of classes y, (B, K, K): row i redistributes the teacher's class i."""
        s = self._s[y][:, None, None] * torch.eye(self._s.shape[0], device=y.device)
        return F.softmax(s + self._u[y] @ self._v[y].mT, -1)

    def target(self, p: Tensor, y: Tensor) -> Tensor:
        """Return M_yᵀ p for answers p and classes y, (B, K); positive, since its logarithm is differentiated."""
        return torch.bmm(p[:, None], self.kernel(y))[:, 0].clamp(min=1e-12)
