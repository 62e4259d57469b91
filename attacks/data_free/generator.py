"""The image generator of data-free attacks, and the game that trains it against the student."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import cos, pi

import torch
from torch import Tensor, nn

from attacks.base import Attack, Lab
from attacks.data_free.memory import Memory
from teachers.networks import Shape
from teachers.surface import Answers
from teachers.task import UNLABELLED
from teachers.training import Batch, Recipe


class Generator(nn.Module):
    """Map noise (B, latent) to images before their last activation (B, C, H, W); smaller than DFME's and MAZE's.

    `pixels` maps them to [0, 1].
    """

    def __init__(self, shape: Shape, latent: int = 64, width: int = 32) -> None:
        super().__init__()
        c, h, w = shape
        self.latent, self.small = latent, (2 * width, -(-h // 4), -(-w // 4))
        self.first = nn.Linear(latent, 2 * width * self.small[1] * self.small[2])
        self.body = nn.Sequential(
            nn.BatchNorm2d(2 * width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, 2 * width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Upsample(size=(h, w)),
            nn.Conv2d(2 * width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, c, 3, 1, 1),
            nn.BatchNorm2d(c, affine=False),
        )

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.body(self.first(z).reshape(-1, *self.small))
        return images


def pixels(images: Tensor) -> Tensor:
    """Map a generator's outputs to pixels in [0, 1], by tanh as DFME does."""
    return (images.tanh() + 1) / 2


@dataclass(frozen=True, kw_only=True)
class GameAttack(Attack):
    """Base class of attacks whose generator plays against the student in rounds."""

    queries: int
    batch: int
    fresh: int  # student steps per round on new images
    replay: int  # student steps of a round on images that were answered in any round so far
    lr: float
    generator_lr: float
    adam: bool = True  # how the generator is stepped; else by SGD with momentum
    memory: int = 1_000_000  # images that replay draws from; the oldest are forgotten


class Game(ABC):
    """A stream in rounds: train the generator once, show the student new images, then stored ones.

    `steps` is the number of student steps that the queries allow: whole rounds, then new images only, so that fewer
    queries than a batch are left.
    """

    view, source = "raw", "generated"

    def __init__(self, lab: Lab, rules: GameAttack, asked: int) -> None:
        """`asked`: batches that a round asks about in addition to the student's new images."""
        self.lab, self.rules = lab, rules
        queries, cost = lab.spend(rules.queries), asked + rules.fresh
        self.batch = max(1, min(rules.batch, queries // cost))
        self.rounds, rest = divmod(queries // self.batch, cost)
        self.steps = self.rounds * (rules.fresh + rules.replay) + rest
        self.chance = torch.Generator().manual_seed(lab.seed)
        self.generator = Generator(lab.pool.shape).to(lab.device)
        weights = list(self.generator.parameters())
        self.optimiser: torch.optim.Optimizer = (
            torch.optim.Adam(weights, rules.generator_lr)
            if rules.adam
            else torch.optim.SGD(weights, rules.generator_lr, momentum=0.9, weight_decay=5e-4)
        )
        room = min(rules.memory, (self.rounds * rules.fresh + rest) * self.batch) if rules.replay else 0
        self.memory = Memory(room, lab.pool.shape, lab.device)

    @property
    def recipe(self) -> Recipe:
        """The student's recipe for this game."""
        return replace(self.lab.recipe, steps=self.steps, batch=self.batch, lr=self.rules.lr)

    @abstractmethod
    def improve(self, student: nn.Module) -> Batch | None:
        """Train the generator for one step against a student in eval mode.

        May return answered images, which become the student's first new batch of the round.
        """

    def next(self, step: int, student: nn.Module) -> Batch:
        now, place = divmod(step, self.rules.fresh + self.rules.replay)
        if now < self.rounds and place >= self.rules.fresh:
            return self.memory.draw(self.batch, self.chance)
        known = None
        if now < self.rounds and place == 0:
            # The same cosine as the student's rate: the papers lower both rates together.
            self.optimiser.param_groups[0]["lr"] = self.rules.generator_lr * (1 + cos(pi * now / self.rounds)) / 2
            known = self.improve(student.eval())
        batch = known or self.ask(pixels(self.imagine().detach()))
        if self.rules.replay:
            assert batch.answers is not None
            self.memory.add(batch.x, batch.answers)
        return batch

    def imagine(self) -> Tensor:
        """Return new images of the generator, before their last activation, (B, C, H, W)."""
        z = torch.randn(self.batch, self.generator.latent, generator=self.chance)
        images: Tensor = self.generator(z.to(self.lab.device, non_blocking=True))
        return images

    def ask(self, x: Tensor) -> Batch:
        """Ask the teacher about images."""
        return batch_of(x, self.lab.oracle(x).to(self.lab.device))

    def step_generator(self, slopes: Iterable[Tensor]) -> None:
        """Take one optimiser step of the generator with the given gradients."""
        for weight, slope in zip(self.generator.parameters(), slopes, strict=True):
            weight.grad = slope
        self.optimiser.step()


def batch_of(x: Tensor, answers: Answers) -> Batch:
    """Return answered images as a batch without labels."""
    return Batch(x, torch.full((len(x),), UNLABELLED, device=x.device), answers)
