"""AVG: the averager student learns each class's mean answer (Keser & Toreyin, ICLR 2023 Tiny Papers)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.losses import kd, supervised, target_class
from teachers.fidelity import Fidelity
from teachers.surface import Answers
from teachers.task import UNLABELLED
from teachers.training import Batch, Outputs, Student

CHUNK = 4096  # answers that are added to the means at once


@dataclass(frozen=True, kw_only=True)
class AVG(Attack):
    """(1 − α) CE + α T² KL(Q_y^T ‖ p_s^T), Q_y the mean of the teacher's softened answers over the class.

    Q_y is all the information in the answers of a teacher with zero CMI: for such a teacher, this attack is decisive.
    The authors average logits instead, over the images of a class in the batch, and weigh by α².
    """

    name = "avg"
    title = "Averager student"
    paper = "Keser & Toreyin, Averager Student, ICLR 2023 Tiny Papers"
    fidelity = Fidelity(
        source="rkevser/AveragerStudent train_averager_stu.py",
        default=False,
        settings=(6,),
        note=(
            "the default averages softened probabilities over all answers; the authors average logits over "
            "the images of a class in the batch, weigh by α² and train a student with auxiliary heads"
        ),
    )
    needs = "probs"
    holds = "original"
    views = "crop"
    later = frozenset({"geometric", "in_batch", "squared"})

    temperature: float = 4.0
    weight: float = 0.9  # α
    geometric: bool = False  # average logits, then soften the mean
    in_batch: bool = False  # average over each batch, not over all answers
    squared: bool = False  # weigh the averages by α²

    @classmethod
    def grid(cls) -> tuple[AVG, ...]:
        published = cls(temperature=20.0, geometric=True, in_batch=True, squared=True)
        tempered = (cls(temperature=t) for t in (2.0, 1.0, 8.0))
        return cls(), *tempered, cls(geometric=True), cls(in_batch=True), published, cls(weight=0.0)

    def run(self, lab: Lab) -> Student:
        paid = lab.paid("crop")
        told, every = lab.told(paid), lab.pool.every_label
        answers = lab.completed(paid, told)
        means = self.means(answers, torch.from_numpy(every).repeat(lab.recipe.views))
        if not paid.whole:  # a class that the teacher is asked about has the mean of its answers alone
            asked = every[paid.images]
            seen = torch.from_numpy(np.unique(asked))
            means[seen] = self.means(told, torch.from_numpy(asked).repeat(paid.views))[seen]
        means = means.to(lab.device)

        def loss(outputs: Outputs, batch: Batch, step: int) -> Tensor:
            return self.loss(outputs, batch, means)

        return lab.fit(lab.stream("crop", answers), loss)

    def loss(self, outputs: Outputs, batch: Batch, means: Tensor) -> Tensor:
        """Return the loss of a batch; `means` (K, K) are those of all answers."""
        assert batch.answers is not None
        rows = self.means(batch.answers, batch.labels) if self.in_batch else means
        distilled = kd(outputs.logits, rows[target_class(batch)], self.temperature)
        weight = self.weight**2 if self.squared else self.weight
        return (1 - self.weight) * supervised(outputs, batch) + weight * distilled

    def means(self, answers: Answers, labels: Tensor) -> Tensor:
        """Return Q of these answers, (K, K)."""
        return class_means(answers, labels, self.temperature, geometric=self.geometric)


def class_means(answers: Answers, labels: Tensor, temperature: float, *, geometric: bool = False) -> Tensor:
    """Return Q_y = mean of P^(1/T) over each class, (K, K); an answer without a label counts for its top class.

    `geometric`: of logits, softened after. A class without answers gets the uniform row.
    """
    k = answers.values.shape[1]
    sums, counts = answers.values.new_zeros(k, k), torch.zeros(k, 1, dtype=torch.int64, device=labels.device)
    for start in range(0, len(answers), CHUNK):
        part, y = answers[start : start + CHUNK], labels[start : start + CHUNK]
        y = torch.where(y == UNLABELLED, part.labels, y)
        p = part.logits() if geometric else part.log_probs(temperature).exp()
        sums.index_add_(0, y, p)
        counts.index_add_(0, y, torch.ones_like(y)[:, None])
    means = torch.where(counts > 0, sums / counts.clamp(min=1), 0.0 if geometric else 1 / k)
    return F.softmax(means / temperature, -1) if geometric else means
