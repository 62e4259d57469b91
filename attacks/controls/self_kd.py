"""Self-KD: a student distilled from another student (born-again networks, Furlanello et al., ICML 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.base import Control, Lab
from attacks.controls.ls import LS
from attacks.losses import kd, soft_target, supervised
from teachers.surface import Answers
from teachers.task import Pool
from teachers.training import Batch, Outputs, Student
from teachers.views import Viewer, ViewSet

CHUNK = 512  # images per forward pass


@dataclass(frozen=True, kw_only=True)
class SelfKD(Control):
    """Train an LS student, then a new one with (1 − α) CE + α T² KL(first^T ‖ p_s^T) on the first one's answers.

    It shows the gain of distillation if the teacher knows nothing that the attacker does not know.
    """

    name = "self-kd"
    title = "Student distilled from the attacker's own student"
    paper = "Furlanello, Lipton, Tschannen, Itti & Anandkumar, Born-Again Neural Networks, ICML 2018, arXiv 1805.04770"
    published = "DenseNet born again: 3.5 % error on CIFAR-10, 15.5 % on CIFAR-100 (abstract)"

    temperature: float = 4.0
    weight: float = 0.9  # α
    smoothing: float = 0.0  # of the first student

    @classmethod
    def grid(cls) -> tuple[SelfKD, ...]:
        return cls(), cls(weight=0.1), cls(weight=0.25, temperature=2.0), cls(weight=0.5, temperature=1.0)

    def run(self, lab: Lab) -> Student:
        first = lab.fit(lab.stream("crop"), LS(smoothing=self.smoothing).loss)
        return lab.fit(lab.stream("crop", own_answers(lab, first, lab.pool, lab.view_set("crop"))), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        distilled = kd(outputs.logits, soft_target(batch, self.temperature), self.temperature)
        return (1 - self.weight) * supervised(outputs, batch) + self.weight * distilled


def own_answers(lab: Lab, student: Student, pool: Pool, views: ViewSet) -> Answers:
    """Return the answers of an attacker's student about all views of a pool, view-major, on the CPU and in a file."""
    parts = log_probs(student.network, pool, views, lab.device)
    return lab.stored(views.count * len(pool), (Answers("probs", part) for part in parts))


def log_probs(network: nn.Module, pool: Pool, views: ViewSet, device: str) -> Iterator[Tensor]:
    """Yield the log-probabilities of a network for all views of a pool, view-major, (B, K) on the CPU."""
    viewer = Viewer(pool, views, device)
    for view in range(views.count):
        for index in torch.split(torch.arange(len(pool), device=device), CHUNK):
            with torch.no_grad():
                logits = network(viewer(index, torch.full_like(index, view)))
                yield logits.log_softmax(-1).cpu()
