"""ActiveThief: the clone chooses in rounds which public images to ask about (Pal et al., arXiv 1905.09165)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks.base import Attack, Index, Lab, draw
from attacks.controls.self_kd import CHUNK, own_answers
from attacks.labels.copycat import copied
from attacks.surrogate.knockoff import imitate, lengthened
from teachers.surface import Answers
from teachers.training import Student
from teachers.views import ViewSet


@dataclass(frozen=True, kw_only=True)
class ActiveThief(Attack):
    """Ask about random images; then, in each round, train a clone and ask about the images that it chooses.

    `entropy` takes the images that the clone is least sure of, `k-center` those whose outputs are farthest from all
    asked before, `random` any. Here 4 rounds with shorter training replace the paper's 20; the last student is trained
    in full.
    """

    name = "activethief"
    title = "ActiveThief"
    paper = "Pal, Gupta, Shukla, Kanade, Shevade & Ganapathy, AAAI 2020, arXiv 1905.09165"
    published = "4.70 times the accuracy of a noise baseline on image tasks, 30,000 queries (abstract of the preprint)"
    needs = "label"
    holds = "surrogate"

    queries: int = 10_000
    longer: float = 4.0  # multiple of the recipe's steps, for the student
    clone: float = 1.0  # the same for the clone of each round
    rounds: int = 4
    strategy: str = "entropy"
    soft: bool = False  # learn from probabilities if the answers hold them

    @classmethod
    def grid(cls) -> tuple[ActiveThief, ...]:
        return cls(), cls(soft=True)

    def run(self, lab: Lab) -> Student:
        pool, wish = lab.surrogate, lab.spend(self.queries)
        rounds = min(self.rounds, wish - 1) if wish < len(pool) else 0  # no choice if all are asked about
        sizes = [len(part) for part in np.array_split(np.arange(min(wish, len(pool))), rounds + 1)]
        only = draw(pool, sizes[0], lab.seed)
        answers = lab.answers("raw", pool=pool, only=only)
        for number, size in enumerate(sizes[1:]):
            clone = self._train(lab, only, answers, self.clone)
            outputs = own_answers(lab, clone, pool, ViewSet("raw", 1)).values
            fresh = choose(self.strategy, outputs, only, size, lab.seed + number)
            told = lab.answers("raw", pool=pool, only=fresh)
            order = torch.from_numpy(np.argsort(np.concatenate([only, fresh])))
            only = np.concatenate([only, fresh])[order.numpy()]
            answers = Answers(answers.kind, torch.cat([answers.values, told.values])[order])
        return self._train(lab, only, answers, self.longer)

    def _train(self, lab: Lab, only: Index, answers: Answers, times: float) -> Student:
        stream = lab.stream("raw", answers, pool=lab.surrogate, only=only, source="surrogate")
        return lab.fit(stream, imitate if self.soft else copied, lengthened(lab.recipe, times))


def choose(strategy: str, outputs: Tensor, asked: Index, count: int, seed: int) -> Index:
    """Return the sorted indices of `count` new images to ask about, given the clone's log-probabilities (N, K)."""
    left = np.setdiff1d(np.arange(len(outputs)), asked)
    if strategy == "entropy":
        parts = (outputs[rows] for rows in torch.split(torch.from_numpy(left), CHUNK))
        entropy = torch.cat([-(part.exp() * part).sum(-1) for part in parts]).numpy()
        return np.sort(left[np.argsort(-entropy, kind="stable")[:count]])
    if strategy == "k-center":
        return np.sort(left[farthest(outputs[left].exp(), outputs[asked].exp(), count)])
    if strategy == "random":
        return np.sort(np.random.default_rng([seed, 1]).permutation(left)[:count])
    raise ValueError(f"unknown strategy {strategy!r}; there are entropy, k-center and random")


def farthest(points: Tensor, centres: Tensor, count: int) -> Index:
    """Return `count` rows, each the farthest from all centres and from the rows chosen before (greedy k-center)."""
    near = torch.cat([torch.cdist(part, centres).amin(1) for part in torch.split(points, 4096)])
    taken = []
    for _ in range(count):
        taken.append(int(near.argmax()))
        near = torch.minimum(near, torch.linalg.vector_norm(points - points[taken[-1]], dim=-1))
    return np.array(taken, np.int64)
