"""LW-KD: a light teacher, trained on an easy synthetic task with as many classes (Liu et al., arXiv 2005.09163)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from attacks.base import Control, Lab
from attacks.controls.ls import LS
from attacks.controls.self_kd import own_answers
from attacks.lazy import LazyAnswers
from attacks.losses import kd, soft_target, supervised
from teachers.fidelity import Fidelity
from teachers.task import UNLABELLED, Augment, Pool
from teachers.training import Batch, Outputs, Student
from teachers.views import ViewSet

PATCH, NOISE = 4, 0.25  # cells per side of a synthetic pattern; sd of its pixel noise, of full scale


@dataclass(frozen=True, kw_only=True)
class LWKD(Control):
    """(1 − α) CE + α T² KL(l^T ‖ p_s^T) + γ A, l the light teacher's answer to a synthetic image of the same class.

    A critic D learns to distinguish the light teacher's softened answers from the student's; the adversarial loss A is
    −log D of the student's. Only the abstract was available (easy synthetic images, a light teacher, KD and an
    adversarial loss): the patterns, the critic and all weights are ours.
    """

    name = "lw-kd"
    title = "Student distilled from a light teacher of synthetic images"
    paper = "Liu, Zhang & Wang, Learning from a lightweight teacher 2020, arXiv 2005.09163"
    fidelity = Fidelity(note="no public text settles it")

    temperature: float = 4.0
    weight: float = 0.5  # α
    adversarial: float = 0.1  # γ
    images: int = 50  # synthetic images per class
    architecture: str = "strided-8-8"  # of the light teacher

    @classmethod
    def grid(cls) -> tuple[LWKD, ...]:
        return cls(), cls(weight=0.02, adversarial=0.02), cls(weight=0.1, temperature=2.0), cls(weight=0.1)

    def run(self, lab: Lab) -> Student:
        easy = synthetic(lab.pool.shape, lab.classes, self.images, lab.seed)
        assert easy.labels is not None
        recipe = replace(lab.recipe, architecture=self.architecture)
        light = lab.fit(lab.stream("raw", pool=easy, source="generated"), LS(smoothing=0.0).loss, recipe)
        told = own_answers(lab, light, easy, ViewSet("raw", 1)).values
        rows = paired(torch.from_numpy(easy.labels), self._labels(lab), lab.seed)
        answers = LazyAnswers(lambda index: told[rows[index]], len(rows))
        stream = lab.stream("crop", answers, only=lab.pool.labelled)
        return lab.fit(stream, Mimicry(self, lab.classes, lab.seed, lab.device))

    @staticmethod
    def _labels(lab: Lab) -> Tensor:
        """Return the class of every view of the labelled images, view-major."""
        assert lab.pool.labels is not None
        labels = torch.from_numpy(lab.pool.labels)
        return labels[labels != UNLABELLED].repeat(lab.recipe.views)


class Mimicry:
    """The objective: labels, the light teacher's answers, and a critic trained on the same scalar."""

    def __init__(self, attack: LWKD, classes: int, seed: int, device: str) -> None:
        self._attack = attack
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            critic = nn.Sequential(nn.Linear(classes, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
        self.critic = critic.to(device)

    def optimiser(self) -> Optimizer:
        return Adam(self.critic.parameters(), 1e-3)

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        attack, target = self._attack, soft_target(batch, self._attack.temperature)
        p = F.softmax(outputs.logits / attack.temperature, -1)
        frozen = {name: weight.detach() for name, weight in self.critic.named_parameters()}
        fooled = F.softplus(-torch.func.functional_call(self.critic, frozen, (p,))).mean()
        told = F.softplus(-self.critic(target)).mean() + F.softplus(self.critic(p.detach())).mean()
        distilled = kd(outputs.logits, target, attack.temperature)
        mixed = (1 - attack.weight) * supervised(outputs, batch) + attack.weight * distilled
        return mixed + attack.adversarial * fooled + told


def synthetic(shape: tuple[int, int, int], classes: int, images: int, seed: int) -> Pool:
    """Draw an easy task: every class is a coarse random pattern, and its images differ only by noise."""
    rng = np.random.default_rng(seed)
    c, h, w = shape
    patterns = torch.from_numpy(rng.random((classes, c, PATCH, PATCH)))
    labels = np.arange(classes * images) % classes
    clean = F.interpolate(patterns, (h, w), mode="nearest").numpy()[labels]
    noisy = clean + NOISE * rng.standard_normal(clean.shape)
    return Pool((noisy.clip(0, 1) * 255).round().astype(np.uint8), labels.astype(np.int64), Augment())


def paired(classes: Tensor, labels: Tensor, seed: int) -> Tensor:
    """Return for every label a random image of that class, (len(labels),); `classes` are those of the images."""
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    ranked = order[classes[order].argsort(stable=True)]  # rows class by class, shuffled within
    count = torch.bincount(classes)
    start = count.cumsum(0) - count
    u = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed + 1))
    return ranked[start[labels] + (u * count[labels]).long()]
