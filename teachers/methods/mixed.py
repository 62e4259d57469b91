"""Train on mixtures of images: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from teachers.methods.base import Method, Positive, TeacherTraining
from teachers.training import Batch, Outputs, StoredStream, Student

if TYPE_CHECKING:
    from torchvision.transforms import v2


@dataclass(frozen=True, kw_only=True)
class Mixup(Method):
    """Minimise the cross entropy with mixed labels on mixed images; one λ ~ Beta(α, α) per batch."""

    name = "mixup"
    title = "the cross entropy on mixtures of two images"
    paper = "Zhang, Cisse, Dauphin & Lopez-Paz, ICLR 2018, arXiv 1710.09412"
    alpha: Positive = 1.0

    def teach(self, trainer: TeacherTraining) -> Student:
        return trainer.fit(self, stream=Mixing(trainer.stream(trainer.recipe), self.mixture))

    def mixture(self, images: int) -> v2.Transform:
        """Return the transform that mixes a batch of `images` images, with one-hot rows of their indices as labels."""
        from torchvision.transforms import v2  # takes a second; imported only here

        return v2.MixUp(alpha=self.alpha, num_classes=images)

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return F.cross_entropy(outputs.logits, batch.truth(outputs.logits.shape[1]))


@dataclass(frozen=True, kw_only=True)
class CutMix(Mixup):
    """Mixup with a rectangle of the other image pasted in; its label's weight is the rectangle's share of the area."""

    name = "cutmix"
    title = "the cross entropy on images with a piece of another"
    paper = "Yun, Han, Oh, Chun, Choe & Yoo, ICCV 2019, arXiv 1905.04899"

    def mixture(self, images: int) -> v2.Transform:
        from torchvision.transforms import v2

        return v2.CutMix(alpha=self.alpha, num_classes=images)


class Mixing:
    """A stream that mixes each image with another of the same batch."""

    def __init__(self, stream: StoredStream, mixture: Callable[[int], v2.Transform]) -> None:
        self.stream, self.mixture = stream, mixture
        self.view, self.source = f"{stream.view}, mixed", stream.source

    def skip(self, step: int) -> Tensor:
        """Skip a batch."""
        return self.stream.skip(step)

    def next(self, step: int, student: nn.Module) -> Batch:
        batch = self.stream.next(step, student)
        rows = torch.arange(len(batch.x), device=batch.x.device)
        # With image indices as labels, the returned rows give each image's share in each mix.
        x, share = self.mixture(len(rows))(batch.x, rows)
        return replace(batch, x=x, partner=batch.labels.roll(1), weight=share.diagonal())
