"""Answers of a teacher whose classes resemble each other, and those of a worse student, drawn and not trained."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

K, EACH, VIEWS = 16, 24, 2


class World(NamedTuple):
    """An ordinary teacher's answers (V·N, K), a worse student's own, and the labels of the images (N,)."""

    answers: Tensor
    reference: Tensor
    labels: Tensor

    @property
    def tops(self) -> Tensor:
        return self.answers.argmax(1)


@cache
def world(k: int = K, each: int = EACH, views: int = VIEWS, seed: int = 0) -> World:
    """Make classes that resemble each other as points in 4 dimensions do, and images and views that differ."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(k).repeat(each)
    points = torch.randn(k, 4, generator=g)
    alike = 1.5 * (points @ points.T)
    image = alike[labels] + 2.5 * torch.randn(len(labels), k, generator=g)

    def answers(noise: float, sharpness: float) -> Tensor:
        z = image.repeat(views, 1) + noise * torch.randn(views * len(labels), k, generator=g)
        lead = z.amax(1, keepdim=True) + 3 + torch.randn(len(z), 1, generator=g)
        z = torch.where(F.one_hot(labels.repeat(views), k).bool(), lead, z)
        return (sharpness * z).log_softmax(1)

    return World(answers(1.0, 1.0), answers(2.5, 0.5), labels)


def tail(w: World) -> Tensor:
    """Return which entries are not the teacher's top class, (V·N, K)."""
    return ~F.one_hot(w.tops, w.answers.shape[1]).bool()


def twin(w: World) -> Tensor:
    """Return the answers of a network that sees as little in an image as the student, and other things."""
    g, images, k = torch.Generator().manual_seed(77), len(w.labels), w.answers.shape[1]
    own = w.answers.view(-1, images, k).mean(0) + 2.5 * torch.randn(images, k, generator=g)
    views = len(w.answers) // images
    return (0.5 * (own.repeat(views, 1) + 0.7 * torch.randn(len(w.answers), k, generator=g))).log_softmax(1)
