"""DFMS-SL: a GAN on proxy images, trained for diverse predictions of the clone (Sanyal et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.base import Attack, Lab, draw
from attacks.data_free.crops import cropped
from attacks.data_free.generator import Generator, pixels
from attacks.data_free.ideal import long_enough
from attacks.data_free.memory import Memory, eight_bit
from attacks.surrogate.knockoff import imitate
from teachers.fidelity import PUBLIC, Fidelity
from teachers.networks import Shape
from teachers.surface import Answers, Kind, concatenate
from teachers.training import Batch, Student


@dataclass(frozen=True, kw_only=True)
class DFMS(Attack):
    """Clone: CE with the victim's answers about proxy and generated images; of a batch, the share `made` is generated.

    Generator: log(1 + e^{−D(G(z))}) + d Σ_c p̄_c log p̄_c + e · H, p̄ the clone's mean answer and H its mean entropy; the
    discriminator sees proxy images. Stages: GAN alone, clone on proxy images, GAN with a small d, then both in turns.
    The preset `views` is nearer to the authors' code: a batch has 0.8 generated images for one proxy image, and the
    clone sees crops of both, shifted by up to 4 of 32 pixels, with the answer about the whole image, which costs no
    query. Mirror images enter only where the task allows them; AutoAugment, a policy for photographs, is left out.
    """

    name = "dfms"
    title = "Data-free model stealing with proxy images, soft labels"
    paper = "Sanyal, Addepalli & Babu, CVPR 2022, arXiv 2204.11022"
    fidelity = Fidelity(
        source=PUBLIC,
        default=False,
        settings=("views",),
        note="AutoAugment is absent; the default shows raw images, generated and proxy ones half and half",
    )
    needs: ClassVar[Kind] = "probs"
    holds = "surrogate"
    later = frozenset({"made", "shift"})

    queries: int = 20_000
    generated: float = 0.5  # share of the queries; the others are about proxy images
    gan_epochs: float = 0.32  # passes over all proxy images, which cost no queries here
    gan_batch: int = 32
    gan_lr: float = 1e-3
    width: int = 8  # channels of generator and discriminator
    alone: float = 0.25  # fraction of the steps in which the clone sees only proxy images
    settling: float = 0.08  # epochs of the GAN with `small_diversity`
    small_diversity: float = 10.0
    diversity: float = 500.0
    entropy: float = 0.0
    passes: float = 5.0  # how often an image is seen, if that takes more steps than the recipe has
    made: float = 0.5  # share of the generated images in a batch, once there are any
    shift: float = 0.0  # share of the side by which the clone's images are shifted at random, at most

    @classmethod
    def presets(cls) -> Mapping[str, DFMS]:
        paper = cls(queries=8_000_000, gan_epochs=100, settling=100, gan_lr=2e-4, width=64)
        return {"paper": paper, "views": cls(made=0.8 / 1.8, shift=4 / 32)}

    def run(self, lab: Lab) -> Student:
        turns = Turns(self, lab)
        return lab.fit(turns, imitate, turns.recipe)


class Turns:
    """Batches of proxy images, later also of generated ones, while the GAN is trained against the clone."""

    view = "raw"
    source = "surrogate"

    def __init__(self, attack: DFMS, lab: Lab) -> None:
        self._attack, self._lab = attack, lab
        total = lab.spend(attack.queries)
        only = draw(lab.surrogate, max(1, round((1 - attack.generated) * total)), lab.seed)
        self._generated = total - len(only)
        self.recipe = long_enough(lab.recipe, total, attack.passes)
        self._turn = round(attack.alone * self.recipe.steps)
        self._chance = torch.Generator().manual_seed(lab.seed)
        images = torch.from_numpy(lab.surrogate.images).to(lab.device)
        answers = self._told(lab.answers("raw", pool=lab.surrogate, only=only))
        self._proxies = Memory(len(only), lab.pool.shape, lab.device)
        self._proxies.add(images[torch.from_numpy(only).to(lab.device)].float().div(255), answers)
        self._made = Memory(min(self._generated, MEMORY), lab.pool.shape, lab.device)
        self._asked = 0
        self._gan = GAN(images, attack, self._chance)

    def next(self, step: int, student: nn.Module) -> Batch:
        if step == 0:
            self._gan.train(self._attack.gan_epochs, None, 0.0)
        if step == self._turn:
            self._gan.train(self._attack.settling, student.eval(), self._attack.small_diversity)
        if step >= self._turn:
            self._gan.step(student.eval(), self._attack.diversity)
            self._ask(self._generated * (step + 1 - self._turn) // (self.recipe.steps - self._turn) - self._asked)
        return self._seen(self._drawn())

    def _drawn(self) -> Batch:
        if not len(self._made):
            return self._proxies.draw(self.recipe.batch, self._chance)
        count = int(self._attack.made * self.recipe.batch)
        made = self._made.draw(count, self._chance)
        return joined(made, self._proxies.draw(self.recipe.batch - count, self._chance))

    def _seen(self, batch: Batch) -> Batch:
        """Return the batch as the clone sees it; the answers are about the whole images."""
        pad = round(self._attack.shift * min(self._lab.pool.shape[1:]))
        augment = replace(self._lab.pool.augment, pad=pad)
        return replace(batch, x=cropped(batch.x, augment, self._chance)) if pad else batch

    def _ask(self, count: int) -> None:
        if count:
            images = self._gan.images(count)
            self._made.add(images, self._told(self._lab.oracle(images)))
            self._asked += count

    def _told(self, answers: Answers) -> Answers:
        known = Answers("label", answers.labels) if self._attack.needs == "label" else answers
        return known.to(self._lab.device)


MEMORY = 200_000  # generated images stored


class GAN:
    """A small DCGAN whose generator's loss may include a clone's predictions."""

    def __init__(self, proxies: Tensor, attack: DFMS, chance: torch.Generator) -> None:
        self._proxies, self._attack, self._chance = proxies, attack, chance
        c, h, w = proxies.shape[1:]
        device = proxies.device
        self._generator = Generator((c, h, w), width=attack.width).to(device)
        self._critic = discriminator((c, h, w), attack.width).to(device)
        betas = (0.5, 0.999)  # as in DCGAN
        self._makes = torch.optim.Adam(self._generator.parameters(), attack.gan_lr, betas)
        self._judges = torch.optim.Adam(self._critic.parameters(), attack.gan_lr, betas)
        # The generator's last batch norm has no learned scale: use that of the proxy images.
        spread = proxies[:4096].float().div(255).clamp(0.01, 0.99).mul(2).sub(1).atanh()
        self._shift, self._scale = spread.mean((0, 2, 3), keepdim=True), spread.std((0, 2, 3), keepdim=True)

    def images(self, count: int) -> Tensor:
        """Return new images rounded to 8-bit pixels, (N, C, H, W)."""
        self._generator.eval()
        with torch.no_grad():
            return eight_bit(self._imagine(count))

    def train(self, epochs: float, clone: nn.Module | None, diversity: float) -> None:
        """Train for a number of epochs (passes over the proxy images)."""
        for _ in range(ceil(epochs * len(self._proxies) / self._attack.gan_batch)):
            self.step(clone, diversity)

    def step(self, clone: nn.Module | None, diversity: float) -> None:
        """Step the discriminator, then the generator."""
        attack = self._attack
        self._generator.train()
        made = self._imagine(attack.gan_batch)
        rows = torch.randint(len(self._proxies), (attack.gan_batch,), generator=self._chance)
        real = self._proxies[rows.to(made.device, non_blocking=True)].float().div(255)
        judged = F.softplus(self._critic(made.detach())).mean() + F.softplus(-self._critic(real)).mean()
        _update(self._judges, judged)
        loss = F.softplus(-self._critic(made)).mean()
        if clone is not None:
            loss = loss + pull(clone(made), diversity, attack.entropy)
        _update(self._makes, loss)

    def _imagine(self, count: int) -> Tensor:
        noise = torch.randn(count, self._generator.latent, generator=self._chance)
        made = self._generator(noise.to(self._proxies.device, non_blocking=True))
        return pixels(self._scale * made + self._shift)


def pull(logits: Tensor, diversity: float, entropy: float) -> Tensor:
    """Return d Σ_c p̄_c log p̄_c + e · mean H(p) of a clone's answers (B, K)."""
    log_p = F.log_softmax(logits, -1)
    mean = log_p.exp().mean(0).clamp(min=1e-8)  # keeps the gradient finite for a class that never occurs
    return diversity * (mean * mean.log()).sum() - entropy * (log_p.exp() * log_p).sum(-1).mean()


def discriminator(shape: Shape, width: int) -> nn.Module:
    """Return two strided convolutions and a linear layer: from images to one logit, (B, 1)."""
    c, h, w = shape
    return nn.Sequential(
        nn.Conv2d(c, width, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(2 * width * (h // 4) * (w // 4), 1),
    )


def joined(a: Batch, b: Batch) -> Batch:
    """Join two batches without labels."""
    assert a.answers is not None
    assert b.answers is not None
    return Batch(torch.cat([a.x, b.x]), torch.cat([a.labels, b.labels]), concatenate([a.answers, b.answers]))


def _update(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.grad = slope
    optimiser.step()
