"""The adaptive attack: decode what a teacher's answers mean from the attacker's own data, then distil.

It assumes nothing about the defence (Kerckhoffs's principle; Tramèr, Carlini, Brendel & Madry, On adaptive attacks to
adversarial example defenses, NeurIPS 2020, arXiv 2002.08347, section 2): whether answers are scaled, reversed, permuted
or turned to labels after some queries is read from the answers, the attacker's labels and a student trained on these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from attacks.adaptive.chain import decode
from attacks.base import Attack, Lab
from attacks.controls.ls import LS
from attacks.logits.dist import DIST
from attacks.logits.dkd import DKD
from attacks.losses import kd, rising, soft_target
from teachers.surface import Answers
from teachers.training import Batch, Student
from teachers.views import Viewer

Loss = Literal["correlation", "decoupled", "tail", "soft"]
CHUNK = 512  # images per forward pass of the reference student


@dataclass(frozen=True, kw_only=True)
class Adaptive(Attack):
    """CE + rising · a loss on decoded answers: DIST's (`correlation`), DKD's (`decoupled`), its `tail`, or `soft` KD.

    A decoder changes the answers only where they show its reason; without any, they are used as they were given.
    """

    name = "adaptive"
    title = "Adaptive attack: decode the answers, then distil"
    paper = "own composition after Tramèr et al., NeurIPS 2020, arXiv 2002.08347, section 2"
    needs = "probs"
    holds = "original"
    views = "crop"

    rescaled: bool = True  # whether answers are scaled to what the labels say
    loss: Loss = "correlation"
    temperature: float = 4.0
    beta: float = 1.0  # of the loss, or of its non-target part
    warmup: float = 20 / 240  # fraction of the steps in which the distilled part rises, as DKD's

    @classmethod
    def grid(cls) -> tuple[Adaptive, ...]:
        return (
            cls(),
            cls(loss="decoupled", temperature=2.0, beta=2.0),
            cls(rescaled=False),
            cls(loss="tail", beta=2.0, rescaled=False),
            cls(loss="soft", temperature=2.0),
        )

    def run(self, lab: Lab) -> Student:
        answers = lab.answers("crop").log_probs()
        meaning = decode(answers, torch.from_numpy(lab.pool.every_label), _reference(lab), rescaled=self.rescaled)
        lab.decoded = meaning.told
        views = len(meaning.log_probs) // len(lab.pool)
        loss = rising(self.distilled, self.warmup, lab.recipe.steps)
        return lab.fit(lab.stream("crop", Answers("probs", meaning.log_probs), views=views), loss)

    def distilled(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the distilled part of the loss."""
        if self.loss == "correlation":
            return DIST(beta=self.beta, gamma=self.beta, temperature=self.temperature).distilled(logits, batch)
        if self.loss == "soft":
            return self.beta * kd(logits, soft_target(batch, self.temperature), self.temperature)
        alpha = 1.0 if self.loss == "decoupled" else 0.0
        return DKD(temperature=self.temperature, alpha=alpha, beta=self.beta).distilled(logits, batch)


@torch.no_grad()
def _answers(student: Student, lab: Lab) -> Tensor:
    """Return a student's own log-probabilities about all views of the pool, (V·N, K), view by view."""
    views = lab.view_set("crop")
    viewer, index = Viewer(lab.pool, views), torch.arange(len(lab.pool))
    parts = [
        student.network(viewer(part, torch.full_like(part, view)).to(lab.device)).log_softmax(-1).cpu()
        for view in range(views.count)
        for part in torch.split(index, CHUNK)
    ]
    return torch.cat(parts)


def _reference(lab: Lab) -> Tensor | None:
    """Return the answers of a student that the attacker trains without the teacher; None without labels."""
    if not len(lab.pool.labelled):
        return None
    student = lab.fit(lab.stream("crop"), LS().loss)
    return _answers(student, lab)
