"""CTKD: a temperature learned against the student, with rising strength (Li et al., AAAI 2023, arXiv 2211.16231)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.losses import supervised
from teachers.fidelity import Fidelity
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class CTKD(Attack):
    """(1 − α) CE + α T² KL(p_t^T ‖ p_s^T) with T = start + span σ(θ); θ maximises the loss that the student minimises.

    θ is one number for all images, trained through a gradient reversal whose strength rises from 0 to 1 as a cosine. It
    adds nothing to the student, so the LS control has the same steps and views, and no heads.
    """

    name = "ctkd"
    title = "Curriculum temperature"
    paper = "Li, Li, Yang, Zhao, Song, Luo, Li & Yang, AAAI 2023, arXiv 2211.16231"
    published = "CIFAR-100, WRN-40-2 to 16-2: 75.45 %, KD 74.92 % (authors' README)"
    fidelity = Fidelity(
        source="zhengli97/CTKD train_student.py",
        default=False,
        note=(
            "the reversal matches; θ has a constant rate of its own, the authors' follows the student's "
            "schedule and decay"
        ),
    )
    needs = "probs"
    holds = "original"
    views = "crop"

    weight: float = 0.9  # α
    start: float = 1.0
    span: float = 20.0
    rise: float = 10 / 240  # fraction of the steps over which the reversal rises, as in the paper's schedule
    lr: float = 0.05  # of θ

    @classmethod
    def grid(cls) -> tuple[CTKD, ...]:
        return cls(), cls(span=2.0), cls(span=5.0), cls(span=2.0, weight=0.5), cls(weight=0.0)

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop", lab.answers("crop")), Curriculum(self, lab.recipe.steps, lab.device))


class Curriculum:
    """The objective and its learned temperature."""

    def __init__(self, attack: CTKD, steps: int, device: str) -> None:
        self._attack = attack
        self._rising = max(1, round(attack.rise * steps))
        self.theta = nn.Parameter(torch.ones((), device=device))

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        """Return the student's loss; its gradient with respect to θ is reversed."""
        strength = (1 - math.cos(math.pi * min(1.0, step / self._rising))) / 2
        reversed_ = self.theta.detach() + strength * (self.theta.detach() - self.theta)
        distilled = tempered(outputs.logits, batch, self.temperature(reversed_))
        weight = self._attack.weight
        return (1 - weight) * supervised(outputs, batch) + weight * distilled

    def temperature(self, theta: Tensor) -> Tensor:
        """Return T = start + span σ(θ)."""
        return self._attack.start + self._attack.span * torch.sigmoid(theta)

    def parameters(self) -> Iterable[Tensor]:
        """Return the parameters trained besides the student's."""
        return [self.theta]

    def optimiser(self) -> torch.optim.Optimizer:
        """Return a new optimiser for θ."""
        return torch.optim.SGD(self.parameters(), self._attack.lr, momentum=0.9)


def tempered(logits: Tensor, batch: Batch, temperature: Tensor) -> Tensor:
    """Return T² KL(p_t^T ‖ p_s^T), differentiable in T on both sides."""
    assert batch.answers is not None
    shown = batch.answers.log_probs()
    hidden = torch.isinf(shown)
    # −inf would make the derivative with respect to T undefined; e^−1e4 is zero as well
    log_t = F.log_softmax((shown.masked_fill(hidden, 0) / temperature).masked_fill(hidden, -1e4), -1)
    log_s = F.log_softmax(logits / temperature, -1)
    return temperature**2 * F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
