"""Backward-pass KD: create images on which student and teacher differ (Jafari et al. 2023, arXiv 2301.12006)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.base import Lab
from attacks.gradients.auxiliary import Auxiliary
from attacks.gradients.kdiga import saliency
from teachers.fidelity import Fidelity
from teachers.surface import Answers


@dataclass(frozen=True, kw_only=True)
class BackwardKD(Auxiliary):
    """Maximise (log p_t[c] − log p_s[c])², c the teacher's top class, along 2 (log p_t[c] − log p_s[c]) (g_t − g_s).

    An answer includes its gradient, so a step costs one query, whose answer the next step or the student uses.
    """

    name = "backward-kd"
    title = "Distillation on images that maximise the difference"
    paper = "Jafari, Rezagholizadeh & Ghodsi 2023, arXiv 2301.12006"
    fidelity = Fidelity(note="no public text settles it")
    needs = "gradients"
    holds = "original"
    views = "crop"

    @classmethod
    def grid(cls) -> tuple[BackwardKD, ...]:
        return cls(), cls(rounds=3)  # three rounds help if there are few images

    @property
    def price(self) -> int:
        return self.ascent

    def slope(self, lab: Lab, network: nn.Module, x: Tensor, answers: Answers, chance: torch.Generator) -> Tensor:
        return explained_slope(network, x, answers)


def explained_slope(network: nn.Module, x: Tensor, answers: Answers) -> Tensor:
    """Return the gradient of (log p_t[c] − log p_s[c])² with respect to the pixels, (B, C, H, W)."""
    assert answers.gradients is not None
    top, x = answers.labels, x.detach().requires_grad_()
    logits = network(x)
    mine, theirs = (torch.log_softmax(z, -1).gather(-1, top[:, None]) for z in (logits.detach(), answers.values))
    return 2 * (theirs - mine)[..., None, None] * (answers.gradients - saliency(logits, x, top))
