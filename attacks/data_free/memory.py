"""Store answered images of a data-free attack, so that its student can see them again."""

from __future__ import annotations

import torch
from torch import Tensor

from teachers.networks import Shape
from teachers.surface import Answers
from teachers.task import UNLABELLED
from teachers.training import Batch


class Memory:
    """Answered images as 8-bit pixels, with their answers; the oldest are overwritten if it is full."""

    def __init__(self, room: int, shape: Shape, device: str) -> None:
        self._images = torch.empty((max(1, room), *shape), dtype=torch.uint8, device=device)
        self._values: Tensor | None = None
        self._seen = 0

    def __len__(self) -> int:
        return min(self._seen, len(self._images))

    def add(self, images: Tensor, answers: Answers) -> None:
        """Store float images in [0, 1], (N, C, H, W), rounded to 8 bits."""
        if self._values is None:
            self._kind = answers.kind
            self._values = answers.values.new_empty((len(self._images), *answers.values.shape[1:]))
        rows = torch.arange(self._seen, self._seen + len(images), device=images.device) % len(self._images)
        self._images[rows] = images.mul(255).round().to(torch.uint8)
        self._values[rows] = answers.values
        self._seen += len(images)

    def draw(self, count: int, chance: torch.Generator) -> Batch:
        """Draw images with replacement, as a batch without labels."""
        assert self._values is not None
        rows = torch.randint(len(self), (count,), generator=chance).to(self._images.device, non_blocking=True)
        unknown = torch.full_like(rows, UNLABELLED)
        return Batch(self._images[rows].float().div(255), unknown, Answers(self._kind, self._values[rows]))


def eight_bit(images: Tensor) -> Tensor:
    """Round images in [0, 1] to 8 bits, as they would be sent to an API."""
    return images.mul(255).round().div(255)
