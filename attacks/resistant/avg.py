"""AVG: the averager student learns each class's mean answer (Keser & Toreyin, ICLR 2023 Tiny Papers)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import Attack, Lab
from attacks.losses import kd, supervised, target_class
from teachers.surface import Answers
from teachers.task import UNLABELLED
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class AVG(Attack):
    """(1 − α) CE + α T² KL(Q_y^T ‖ p_s^T), Q_y the mean of the teacher's softened answers over the class.

    Q_y is all the information in the answers of a teacher with zero CMI: for such a teacher, this attack is decisive.
    """

    name = "avg"
    title = "Averager student"
    paper = "Keser & Toreyin, Averager Student, ICLR 2023 Tiny Papers"
    needs = "probs"
    holds = "original"
    views = "crop"

    temperature: float = 4.0
    weight: float = 0.9

    @classmethod
    def grid(cls) -> tuple[AVG, ...]:
        return cls(), cls(temperature=2.0), cls(temperature=1.0), cls(temperature=8.0)

    def run(self, lab: Lab) -> Student:
        answers = lab.answers("crop")
        assert lab.pool.labels is not None
        labels = torch.from_numpy(lab.pool.labels).repeat(lab.recipe.views)
        means = class_means(answers, labels, self.temperature).to(lab.device)

        def loss(outputs: Outputs, batch: Batch, step: int) -> Tensor:
            distilled = kd(outputs.logits, means[target_class(batch)], self.temperature)
            return (1 - self.weight) * supervised(outputs, batch) + self.weight * distilled

        return lab.fit(lab.stream("crop", answers), loss)


def class_means(answers: Answers, labels: Tensor, temperature: float) -> Tensor:
    """Return Q_y = mean of P^(1/T) over each class, (K, K); an answer without a label counts for its top class.

    A class without answers gets the uniform row.
    """
    p = answers.log_probs(temperature).exp()
    y = torch.where(labels == UNLABELLED, answers.labels, labels)
    k = p.shape[1]
    sums = torch.zeros_like(p[:1]).repeat(k, 1).index_add_(0, y, p)
    counts = torch.bincount(y, minlength=k)[:, None]
    return torch.where(counts > 0, sums / counts.clamp(min=1), 1 / k)
