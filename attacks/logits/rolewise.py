"""Role-wise augmentation: teacher and student get different views (Fu et al. 2020, arXiv 2004.08861)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Index, Lab
from attacks.lazy import LazyAnswers
from attacks.losses import kd, soft_target, supervised
from teachers.fidelity import Fidelity
from teachers.task import UNLABELLED
from teachers.training import Batch, Outputs, Student

CANDIDATES = ("raw", "crop", "strong")


@dataclass(frozen=True, kw_only=True)
class RoleWise(Attack):
    """(1 − α) CE + α T² KL(p_t(v_t)^T ‖ p_s(v_s)^T): the student sees one kind of view, the teacher another.

    The teacher's kind of view is chosen by queries: a few labelled images are asked about in every kind, and the kind
    whose answers have the lowest cross entropy with the labels is used. The LS control has the student's view.
    """

    name = "rolewise"
    title = "Role-wise augmentation"
    paper = "Fu et al. 2020, arXiv 2004.08861"
    fidelity = Fidelity(note="no public text gives its setting")
    needs = "probs"
    holds = "original"

    temperature: float = 4.0
    weight: float = 0.9
    student: str = "crop"  # the student's kind of view
    trial: int = 200  # images asked about in every kind

    @classmethod
    def grid(cls) -> tuple[RoleWise, ...]:
        return cls(), cls(temperature=2.0), cls(temperature=1.0), cls(student="crop+strong"), cls(weight=0.0)

    def run(self, lab: Lab) -> Student:
        kind = self.choose(lab)
        answers = lab.answers(kind)
        handed = sum(lab.view_set(part).count for part in self.student.split("+"))
        told = LazyAnswers(lambda rows: answers.values[rows % len(answers)], handed * len(lab.pool))
        return lab.fit(lab.stream(self.student, told), self.loss)

    def choose(self, lab: Lab) -> str:
        """Ask about some images in every kind of view; return the kind that the teacher answers best."""
        only = self._sample(lab)
        if not len(only):
            return CANDIDATES[0]
        labels, losses = torch.from_numpy(lab.pool.every_label[only]), []
        for kind in CANDIDATES:
            answers = lab.answers(kind, only=only, views=1)
            target = torch.where(labels == UNLABELLED, answers.labels, labels)
            losses.append(float(F.cross_entropy(answers.logits(), target)))
        return CANDIDATES[int(np.argmin(losses))]

    def _sample(self, lab: Lab) -> Index:
        """Draw labelled images, or any if none is labelled; their number leaves a query for every image."""
        pool = lab.pool
        images = pool.labelled if len(pool.labelled) else np.arange(len(pool))
        spare = lab.spend(len(pool) + len(CANDIDATES) * self.trial) - len(pool)
        count = max(0, spare) // len(CANDIDATES)
        return np.sort(np.random.default_rng(lab.seed).permutation(images)[:count])

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        distilled = kd(outputs.logits, soft_target(batch, self.temperature), self.temperature)
        return (1 - self.weight) * supervised(outputs, batch) + self.weight * distilled
