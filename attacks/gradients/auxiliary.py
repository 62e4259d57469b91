"""The base of both backward-pass attacks: auxiliary images on which the student differs from the teacher."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.base import Attack, Lab
from attacks.losses import kd, soft_target, supervised
from teachers.surface import Answers, concatenate
from teachers.task import UNLABELLED
from teachers.training import Batch, Outputs, Stream, Student
from teachers.views import Viewer

CHUNK = 256  # images that are moved together


@dataclass(frozen=True, kw_only=True)
class Auxiliary(Attack):
    """Train, move images to increase the student's difference from the teacher, train again on these and the old ones.

    The loss is (1 − α) CE + α T² KL(p_t^T ‖ p_s^T); auxiliary images have no label and do not enter the CE.
    """

    temperature: float = 4.0
    weight: float = 0.9  # α
    extra: int = 25_000  # queries in addition to the stored views
    rounds: int = 1
    ascent: int = 1  # gradient steps per image
    stride: float = 0.05  # root mean square change of a pixel per step, of full scale
    share: float = 0.5  # share of auxiliary images in a batch

    @property
    @abstractmethod
    def price(self) -> int:
        """The number of queries per auxiliary image."""

    @abstractmethod
    def slope(self, lab: Lab, network: nn.Module, x: Tensor, answers: Answers, chance: torch.Generator) -> Tensor:
        """Return the gradient of the divergence at images x whose answers are known, (B, C, H, W)."""

    def run(self, lab: Lab) -> Student:
        answers = lab.answers("crop")
        student = lab.fit(lab.stream("crop", answers), self.loss)
        chance = torch.Generator().manual_seed(lab.seed)
        count = lab.spend(self.extra) // (max(1, self.rounds) * self.price)
        climbed: list[tuple[Tensor, Answers]] = []
        for _ in range(self.rounds if count else 0):
            rows = torch.randperm(len(answers), generator=chance)[:count]
            climbed += [
                self.climb(lab, student.network, part, answers[part], chance) for part in torch.split(rows, CHUNK)
            ]
            images, told = torch.cat([x for x, _ in climbed]), concatenate([a for _, a in climbed])
            mixed = Augmented(lab.stream("crop", answers), images, told, self.share, lab.seed)
            student = lab.fit(mixed, self.loss)
        return student

    def climb(
        self, lab: Lab, network: nn.Module, rows: Tensor, answers: Answers, chance: torch.Generator
    ) -> tuple[Tensor, Answers]:
        """Move stored views to increase the divergence; return the new images with the teacher's answers about them."""
        viewer, rows = Viewer(lab.pool, lab.view_set("crop"), lab.device), rows.to(lab.device)
        x, answers = viewer(rows % len(lab.pool), rows // len(lab.pool)), answers.to(lab.device)
        for _ in range(self.ascent):
            x = uphill(x, self.slope(lab, network, x, answers, chance), self.stride)
            answers = lab.oracle(x).to(lab.device)
        return x, answers

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        distilled = kd(outputs.logits, soft_target(batch, self.temperature), self.temperature)
        return (1 - self.weight) * supervised(outputs, batch) + self.weight * distilled


def uphill(x: Tensor, slope: Tensor, stride: float) -> Tensor:
    """Move each image along its gradient by a root mean square pixel change of `stride`, clipped to [0, 1]."""
    length = slope.square().mean((1, 2, 3), keepdim=True).sqrt()
    return (x + stride * slope / length.clamp(min=1e-12)).clamp(0, 1)


class Augmented:
    """A stream that replaces a share of every batch by auxiliary images, drawn with replacement."""

    def __init__(self, stream: Stream, images: Tensor, answers: Answers, share: float, seed: int) -> None:
        self._stream, self.view, self.source = stream, stream.view, stream.source
        self._images, self._answers, self._share = images, answers, share
        self._chance = torch.Generator().manual_seed(seed)

    def next(self, step: int, student: nn.Module) -> Batch:
        batch = self._stream.next(step, student)
        assert batch.answers is not None
        count = round(self._share * len(batch.x))
        rows = torch.randint(len(self._images), (count,), generator=self._chance)
        rows = rows.to(self._images.device, non_blocking=True)
        return Batch(
            torch.cat([batch.x[count:], self._images[rows]]),
            torch.cat([batch.labels[count:], torch.full_like(batch.labels[:count], UNLABELLED)]),
            concatenate([batch.answers[count:], self._answers[rows]]),
        )
