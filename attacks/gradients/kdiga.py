"""KDIGA: distil with input-gradient alignment (Shao et al. 2021, arXiv 2110.12072)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.losses import kd, soft_target, supervised
from teachers.fidelity import Fidelity
from teachers.training import Batch, Outputs, Stream, Student

CHUNK = 4096  # gradients that are measured at once


@dataclass(frozen=True, kw_only=True)
class KDIGA(Attack):
    """(1 − α) CE + α T² KL(p_t^T ‖ p_s^T) + γ ‖g_s − g_t‖² / mean ‖g_t‖², g = ∇_x log p[c], c the teacher's top class.

    The paper aligns the gradients of the cross entropy with the label; an API gives those of its top class only. The
    mean over all answers makes γ independent of the scale of pixels. With `cosine` the last term is
    γ (1 − cos(g_s, g_t)).
    """

    name = "kdiga"
    title = "Distillation with input-gradient alignment"
    paper = (
        "Shao, Yi, Chen & Hsieh, How and When Adversarial Robustness Transfers in Knowledge Distillation, 2110.12072"
    )
    fidelity = Fidelity(note="no public text gives its weights")
    needs = "gradients"
    holds = "original"
    views = "crop"

    temperature: float = 4.0
    weight: float = 0.9  # α
    alignment: float = 0.1  # γ
    cosine: bool = False

    @classmethod
    def grid(cls) -> tuple[KDIGA, ...]:
        return cls(), cls(cosine=True, alignment=1.0), cls(cosine=True, alignment=5.0)

    def run(self, lab: Lab) -> Student:
        paid = lab.paid("crop")
        told = lab.told(paid)
        answers = lab.completed(paid, told)
        assert told.gradients is not None
        parts = torch.split(told.gradients, CHUNK)
        squares = torch.cat([part.double().square().sum((1, 2, 3)) for part in parts])
        scale = float(squares.mean()) if len(told) else 1.0

        def loss(outputs: Outputs, batch: Batch, step: int) -> Tensor:
            distilled = kd(outputs.logits, soft_target(batch, self.temperature), self.temperature)
            base = (1 - self.weight) * supervised(outputs, batch) + self.weight * distilled
            return base + self.alignment * self.misalignment(outputs.logits, batch, scale, paid.whole)

        return lab.fit(Differentiable(lab.stream("crop", answers)), loss)

    def misalignment(self, logits: Tensor, batch: Batch, scale: float, whole: bool = True) -> Tensor:
        """Return the distance of the student's input gradients from the teacher's, averaged over the batch.

        If not all views are explained (`whole`), those without an explanation have no distance that a student changes.
        """
        assert batch.answers is not None
        assert batch.answers.gradients is not None
        mine = saliency(logits, batch.x, batch.answers.labels, create_graph=True).flatten(1)
        theirs = batch.answers.gradients.flatten(1)
        if not whole:
            mine = torch.where(theirs.any(-1, keepdim=True), mine, theirs)
        if self.cosine:
            return (1 - F.cosine_similarity(mine, theirs, eps=1e-6)).mean()
        return (mine - theirs).square().sum(-1).mean() / max(scale, 1e-12)


def saliency(logits: Tensor, x: Tensor, top: Tensor, *, create_graph: bool = False) -> Tensor:
    """Return the gradient of log p[top] with respect to the pixels, (B, C, H, W), as an API returns it."""
    told = F.log_softmax(logits, -1).gather(-1, top[:, None]).sum()
    (slope,) = torch.autograd.grad(told, x, create_graph=create_graph)
    return slope


class Differentiable:
    """A stream whose pixels require a gradient."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self.view, self.source = stream, stream.view, stream.source

    def next(self, step: int, student: nn.Module) -> Batch:
        batch = self._stream.next(step, student)
        return replace(batch, x=batch.x.requires_grad_())
