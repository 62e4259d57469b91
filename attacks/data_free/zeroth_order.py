"""A generator whose gradient through a black box is estimated by forward differences, as in DFME and MAZE."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.base import Lab
from attacks.data_free.generator import Game, GameAttack, batch_of, pixels
from teachers.surface import Answers
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class ZerothOrder(GameAttack):
    """The generator maximises a divergence between student and teacher, which the student minimises.

    A round asks about B · [(m + 1) + fresh] images, or B fewer if the student also learns from those that the generator
    asked about.
    """

    directions: int  # m
    epsilon: float
    shared: bool  # whether the generator's images are also the student's first new ones

    @abstractmethod
    def divergence(self, logits: Tensor, answers: Answers) -> Tensor:
        """Return the divergence of a student's logits from the teacher's answers per image, (B,)."""

    def run(self, lab: Lab) -> Student:
        duel = Duel(lab, self)
        return lab.fit(duel, self.loss, duel.recipe)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        assert batch.answers is not None
        return self.divergence(outputs.logits, batch.answers).mean()


class Duel(Game):
    """A game that estimates the generator's gradient from answers, without backpropagation through the teacher."""

    def __init__(self, lab: Lab, rules: ZerothOrder) -> None:
        super().__init__(lab, rules, rules.directions + 1 - rules.shared)
        self.duel = rules

    def improve(self, student: nn.Module) -> Batch | None:
        images = self.imagine()
        asked: list[Answers] = []

        def divergence(points: Tensor) -> Tensor:
            x = pixels(points)
            asked.append(self.lab.oracle.estimate(x).to(self.lab.device))
            with torch.no_grad():
                raw = student(x)
            return self.duel.divergence(raw.logits if isinstance(raw, Outputs) else raw, asked[-1])

        base = images.detach()
        directions = sphere(self.duel.directions, base, self.chance)
        slope = forward_differences(divergence, base, directions, self.duel.epsilon)
        weights = list(self.generator.parameters())
        self.step_generator(torch.autograd.grad(images, weights, -slope / len(images)))
        return batch_of(pixels(base), asked[0][: len(base)]) if self.duel.shared else None


def sphere(count: int, like: Tensor, chance: torch.Generator) -> Tensor:
    """Draw directions uniformly on the unit sphere for every image, (m, B, C, H, W)."""
    drawn = torch.randn((count, *like.shape), generator=chance, dtype=like.dtype)
    length: Tensor = torch.linalg.vector_norm(drawn, dim=(2, 3, 4), keepdim=True)
    return (drawn / length).to(like.device, non_blocking=True)


def forward_differences(function: Callable[[Tensor], Tensor], x: Tensor, directions: Tensor, epsilon: float) -> Tensor:
    """Return (d/m) Σ_k [f(x + εu_k) − f(x)] / ε · u_k for every image, (B, C, H, W).

    x (B, C, H, W), directions (m, B, C, H, W) of unit length; the function maps (N, C, H, W) to (N,) and is called
    once, on the images themselves followed by the moved ones.
    """
    points = torch.cat([x[None], x + epsilon * directions])  # (m + 1, B, C, H, W)
    values = function(points.flatten(0, 1)).reshape(points.shape[:2])
    rise = (values[1:] - values[0]) / epsilon  # (m, B)
    return (rise[..., None, None, None] * directions).mean(0) * x[0].numel()
