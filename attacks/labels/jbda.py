"""JBDA: move images along the clone's own gradient and ask again (Papernot et al., ASIA CCS 2017)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from attacks.base import Attack, Lab, draw
from attacks.labels.copycat import copied
from attacks.surrogate.knockoff import lengthened
from teachers.fidelity import PUBLIC, Fidelity
from teachers.surface import Answers
from teachers.task import Images, Pool
from teachers.training import Student

CHUNK = 512  # images per gradient pass


@dataclass(frozen=True, kw_only=True)
class JBDA(Attack):
    """In each round, train a clone on the teacher's labels and ask about x + λ sign(∂ z_clone[label] / ∂x), clipped.

    Each round doubles the number of images until the budget is spent. The last student learns all labels, on crops. λ
    is for pixels in [0, 1]: the 0.1 of public code, for pixels in [−1, 1], is 0.05 here, the fifth setting.
    """

    name = "jbda"
    title = "Jacobian-based data augmentation"
    paper = "Papernot, McDaniel, Goodfellow, Jha, Celik & Swami, ASIA CCS 2017, arXiv 1602.02697"
    fidelity = Fidelity(
        source=PUBLIC,
        default=False,
        settings=(4,),
        note="the default step of 0.1 is for pixels in [−1, 1], ours are in [0, 1]",
    )
    needs = "label"
    holds = "original"

    queries: int = 50_000
    step: float = 0.1  # λ, of full scale
    rounds: int = 4
    clone: float = 0.5  # multiple of the recipe's steps, for the clone of each round
    longer: float = 1.0  # the same for the student

    @classmethod
    def grid(cls) -> tuple[JBDA, ...]:
        few = cls(rounds=1, step=0.03)  # with more rounds, moved images would outnumber real ones
        return cls(), few, replace(few, longer=2.0), cls(rounds=1, longer=2.0), cls(step=0.05)

    def run(self, lab: Lab) -> Student:
        wish, rng = lab.spend(self.queries), np.random.default_rng(lab.seed)
        pool = Pool(lab.pool.images[draw(lab.pool, wish, lab.seed)], augment=lab.pool.augment)
        labels = lab.answers("raw", pool=pool).labels
        for _ in range(self.rounds):
            if len(pool) == wish:
                break
            clone = self._train(lab, pool, labels, self.clone)
            rows = rng.permutation(len(pool))[: wish - len(pool)]
            moved = climbed(clone.network, pool.images[rows], labels[torch.from_numpy(rows)], self.step, lab.device)
            labels = torch.cat([labels, lab.answers("raw", pool=Pool(moved)).labels])
            pool = Pool(np.concatenate([pool.images, moved]), augment=pool.augment)
        return self._train(lab, pool, labels, self.longer)

    def _train(self, lab: Lab, pool: Pool, labels: Tensor, times: float) -> Student:
        told = Answers("label", labels.repeat(lab.recipe.views))  # labels of the uncropped images
        return lab.fit(lab.stream("crop", told, pool=pool), copied, lengthened(lab.recipe, times))


def climbed(network: nn.Module, images: Images, labels: Tensor, step: float, device: str) -> Images:
    """Return x + step · sign(∂ z[label] / ∂x), clipped and rounded to whole grey levels."""
    moved = np.empty_like(images)
    for at in range(0, len(images), CHUNK):
        chunk = slice(at, at + CHUNK)
        x = torch.from_numpy(images[chunk]).to(device).float().div_(255).requires_grad_()
        told = network(x).gather(1, labels[chunk].to(device)[:, None])
        (slope,) = torch.autograd.grad(told.sum(), x)
        moved[chunk] = ((x + step * slope.sign()).clamp(0, 1) * 255).round().to(torch.uint8).detach().cpu().numpy()
    return moved
