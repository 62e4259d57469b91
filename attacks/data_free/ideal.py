"""IDEAL: in each round a new generator makes images that the student is sure of (Zhang, Chen & Lyu, ICLR 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.data_free.generator import Generator, pixels
from attacks.data_free.memory import Memory, eight_bit
from attacks.surrogate.knockoff import imitate
from teachers.fidelity import PUBLIC, Fidelity
from teachers.surface import Answers
from teachers.training import Batch, Recipe, Student


@dataclass(frozen=True, kw_only=True)
class IDEAL(Attack):
    """Each round: a new G, a few steps of min CE(z_s(G(z)), y) + balance · Σ_c p̄_c log p̄_c, then one label per image.

    y is uniform over classes, p̄ is the student's mean answer. The student is trained throughout on all images so far,
    with the cross entropy; no image is asked about twice. The paper's augmentations suit photographs; here every image
    gets a random brightness instead, so that some resemble letters on black.
    The authors' code differs in two points, which `sample` and `best` take over (the fifth setting): the second term is
    balance · the mean of p log p over images and classes, so that images may be unsure; and of a round's steps, the
    images are those of the smallest loss, here of all images and not of a batch, instead of the last ones.
    """

    name = "ideal"
    title = "IDEAL: query-efficient data-free learning from black boxes"
    paper = "Zhang, Chen & Lyu, ICLR 2023, arXiv 2205.11158"
    published = "CIFAR-10: 5.83 points over DFME with 0.02 of its queries (abstract)"
    fidelity = Fidelity(
        source=PUBLIC,
        default=False,
        settings=(4,),
        note="the default balances the batch's mean answer and keeps a round's last images",
    )
    needs = "label"
    holds = "no data"
    later = frozenset({"sample", "best"})

    queries: int = 25_000
    rounds: int = 100
    generator_steps: int = 5
    generator_batch: int = 32
    width: int = 8  # channels of the generator
    lr: float = 1e-3
    balance: float = 5.0
    brightness: float = -1.5  # middle of the range of random shifts, before the tanh
    contrast: float = 1.0  # half the width of that range
    gathering: float = 0.8  # fraction of the steps over which the rounds are spread; later steps use all images
    passes: float = 4.0  # how often an image is seen, if that takes more steps than the recipe has
    sample: bool = False  # whether p log p is of every image's answer instead of the mean answer
    best: bool = False  # whether a round's images are those of its best step instead of the last

    @classmethod
    def grid(cls) -> tuple[IDEAL, ...]:
        public = cls(sample=True, best=True)
        return cls(), cls(lr=3e-3), cls(brightness=-1.0, lr=3e-3), cls(brightness=0.0), public

    @classmethod
    def presets(cls) -> Mapping[str, IDEAL]:
        return {"paper": cls(queries=250_000, rounds=1_000, generator_steps=30, generator_batch=250, width=32)}

    def run(self, lab: Lab) -> Student:
        dreams = Dreams(self, lab)
        return lab.fit(dreams, imitate, dreams.recipe)


def long_enough(recipe: Recipe, queries: int, passes: float) -> Recipe:
    """Return the recipe with enough steps to see every image `passes` times on average, and no fewer than before."""
    return replace(recipe, steps=max(recipe.steps, round(passes * queries / recipe.batch)))


class Dreams:
    """Batches of all images so far; every round adds new ones."""

    view = "raw"
    source = "generated"

    def __init__(self, attack: IDEAL, lab: Lab) -> None:
        self._attack, self._lab = attack, lab
        self._total = lab.spend(attack.queries)
        # With a small budget, make fewer rounds rather than rounds too small to train a generator.
        self._rounds, self._round = max(1, min(attack.rounds, self._total // attack.generator_batch)), 0
        self.recipe = long_enough(lab.recipe, self._total, attack.passes)
        self._gathering = max(1, round(attack.gathering * self.recipe.steps))
        self._chance = torch.Generator().manual_seed(lab.seed)
        self._memory = Memory(self._total, lab.pool.shape, lab.device)

    def next(self, step: int, student: nn.Module) -> Batch:
        # Several rounds may fall into one step.
        while self._round < self._rounds and self._round * self._gathering <= step * self._rounds:
            done, self._round = self._round, self._round + 1
            count = self._total * self._round // self._rounds - self._total * done // self._rounds
            images = self._dream(count, student.eval())
            self._memory.add(images, Answers("label", self._lab.oracle(images).labels.to(self._lab.device)))
        return self._memory.draw(self.recipe.batch, self._chance)

    def _dream(self, count: int, student: nn.Module) -> Tensor:
        """Train a new generator against the student and return its images, (N, C, H, W)."""
        attack, device = self._attack, self._lab.device
        generator = Generator(self._lab.pool.shape, width=attack.width).to(device)
        noise = torch.randn(count, generator.latent, generator=self._chance).to(device)
        wanted = balanced(count, self._lab.classes, self._chance).to(device)
        weights = list(generator.parameters())
        optimiser = torch.optim.Adam(weights, attack.lr)
        best = torch.inf, noise
        for _ in range(attack.generator_steps):
            if attack.best:
                images = self._images(generator, noise)
                with torch.no_grad():
                    cost = float(dreaming(student(images), wanted, attack.balance, attack.sample))
                best = min(best, (cost, images), key=lambda found: found[0])
            rows = torch.randperm(count, generator=self._chance)[: attack.generator_batch]
            rows = rows.to(device, non_blocking=True)
            x = pixels(generator(noise[rows]) + self._light(len(rows)))
            loss = dreaming(student(x), wanted[rows], attack.balance, attack.sample)
            for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.grad = slope
            optimiser.step()
        return best[1] if best[0] < torch.inf else self._images(generator, noise)

    @torch.no_grad()
    def _images(self, generator: Generator, noise: Tensor) -> Tensor:
        return eight_bit(pixels(generator(noise) + self._light(len(noise))))

    def _light(self, count: int) -> Tensor:
        drawn = 2 * torch.rand(count, 1, 1, 1, generator=self._chance) - 1
        light = self._attack.brightness + self._attack.contrast * drawn
        return light.to(self._lab.device, non_blocking=True)


def balanced(count: int, classes: int, chance: torch.Generator) -> Tensor:
    """Return labels in random order, (N,); the counts of the classes differ by at most one."""
    first = torch.randperm(classes, generator=chance)
    return first[torch.arange(count) % classes][torch.randperm(count, generator=chance)]


def dreaming(logits: Tensor, wanted: Tensor, balance: float, sample: bool = False) -> Tensor:
    """Return CE(z, y) + balance · Σ_c p̄_c log p̄_c, p̄ the mean answer of the batch.

    With `sample`, the second term is balance · the mean of p log p over all images and classes.
    """
    if sample:
        log_p = F.log_softmax(logits, -1)
        return F.cross_entropy(logits, wanted) + balance * (log_p.exp() * log_p).mean()
    mean = F.softmax(logits, -1).mean(0).clamp(min=1e-8)  # keeps the gradient finite for a class that never occurs
    return F.cross_entropy(logits, wanted) + balance * (mean * mean.log()).sum()
