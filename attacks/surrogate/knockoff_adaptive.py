"""Knockoff Nets with the adaptive policy: a gradient bandit over groups of images (Orekondy et al., CVPR 2019)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.base import Attack, Index, Lab, draw
from attacks.surrogate.knockoff import imitate, lengthened
from teachers.fidelity import PUBLIC, Fidelity
from teachers.surface import Answers, concatenate
from teachers.task import UNLABELLED, Pool
from teachers.training import Batch, Student
from teachers.views import Viewer, ViewSet

Floats = NDArray[np.float64]

SIDE = 8  # pixels per side of the thumbnails by which images are clustered
WINDOW = 25  # blocks over which rewards are standardised, the paper's Δ


@dataclass(frozen=True, kw_only=True)
class KnockoffAdaptive(Attack):
    """Draw a group from π = softmax(H), ask about an image of it, then H += (r − r̄)(one-hot − π) / N(group).

    r sums the certainty of an answer, its diversity Σ max(0, y − ȳ) and the clone's loss, each as a z-score over the
    last 25 blocks. The clone is trained online; a new student is then trained on all answers. Groups are clusters of
    thumbnails; in the paper they are a hierarchy of classes.
    """

    name = "knockoff-adaptive"
    title = "Knockoff Nets, adaptive policy"
    paper = "Orekondy, Schiele & Fritz, CVPR 2019, arXiv 1812.02766, adaptive policy"
    fidelity = Fidelity(source=PUBLIC, note="the bandit's rewards match")
    needs = "label"
    holds = "surrogate"

    queries: int = 10_000
    longer: float = 4.0  # multiple of the recipe's steps, for the student
    groups: int = 20
    block: int = 64  # images asked about between two updates of the policy
    certainty: bool = True
    diversity: bool = True
    loss: bool = True

    def run(self, lab: Lab) -> Student:
        pool, wish = lab.surrogate, lab.spend(self.queries)
        if wish < len(pool):
            asking = Asking(lab, self, wish)
            lab.fit(asking, imitate, lengthened(lab.recipe, asking.blocks / lab.recipe.steps))
            only, answers = asking.collected()
        else:  # all are asked about: no choice
            only = draw(pool, wish, lab.seed)
            answers = lab.answers("raw", pool=pool, only=only)
        stream = lab.stream("raw", answers, pool=pool, only=only, source="surrogate")
        return lab.fit(stream, imitate, lengthened(lab.recipe, self.longer))


class Asking:
    """The clone's stream: each batch is a block of images that the bandit chose and the teacher has just answered."""

    view, source = "raw", "surrogate"

    def __init__(self, lab: Lab, attack: KnockoffAdaptive, wish: int) -> None:
        self._lab, self._attack = lab, attack
        self.blocks = max(1, wish // attack.block)
        self._sizes = [len(part) for part in np.array_split(np.arange(wish), self.blocks)]
        self._bandit = Bandit(grouped(lab.surrogate, attack.groups, lab.seed), lab.seed)
        self._viewer = Viewer(lab.surrogate, ViewSet("raw", 1))
        self._asked: list[tuple[Index, Answers]] = []
        self._recent: deque[Floats] = deque(maxlen=WINDOW)
        self._rewards: dict[str, deque[Floats]] = {}

    def next(self, step: int, student: nn.Module) -> Batch:
        groups, images = self._bandit.draw(self._sizes[step])
        index = torch.from_numpy(images)
        x = self._viewer(index, torch.zeros_like(index))
        answers = self._lab.oracle(x)
        self._asked.append((images, answers))
        self._bandit.learn(groups, self._reward(answers, x.to(self._lab.device), student))
        again = torch.from_numpy(np.resize(np.arange(len(x)), max(len(x), self._attack.block)))  # never one image only
        labels = torch.full_like(again, UNLABELLED)
        device = self._lab.device
        return Batch(x[again].to(device), labels.to(device), answers[again].to(device))

    def collected(self) -> tuple[Index, Answers]:
        """Return the indices of all images asked about, in the pool's order, with their answers."""
        images = np.concatenate([part for part, _ in self._asked])
        order = np.argsort(images)
        return images[order], concatenate([part for _, part in self._asked])[torch.from_numpy(order)]

    @torch.no_grad()
    def _reward(self, answers: Answers, x: Tensor, student: nn.Module) -> Floats:
        """Return r − r̄ of every image in a block, (B,)."""
        y = answers.probs(self._lab.classes)
        self._recent.append(y.double().numpy())
        parts = {}
        if self._attack.certainty:
            first, second = y.topk(2, -1).values.T
            parts["certainty"] = first - second
        if self._attack.diversity:
            mean = torch.from_numpy(np.concatenate(self._recent).mean(0))
            parts["diversity"] = (y - mean).clamp(min=0).sum(-1)
        if self._attack.loss:
            parts["loss"] = -(y * F.log_softmax(student.eval()(x), -1).cpu()).sum(-1)
        total = np.zeros(len(y))
        for name, part in parts.items():
            window = self._rewards.setdefault(name, deque(maxlen=WINDOW))
            window.append(part.double().numpy())
            total += standing(window)
        return total


class Bandit:
    """A policy over groups of images; each image is drawn once."""

    def __init__(self, members: list[Index], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._left = [self._rng.permutation(part).tolist() for part in members]
        self.preference = np.zeros(len(members))
        self._taken = np.zeros(len(members))

    def policy(self) -> Floats:
        """Return the probability of every group; zero for groups that are used up."""
        open_ = np.array([len(part) > 0 for part in self._left])
        weight = np.where(open_, np.exp(self.preference - self.preference.max(where=open_, initial=-np.inf)), 0)
        return np.asarray(weight / weight.sum())

    def draw(self, count: int) -> tuple[Index, Index]:
        """Draw `count` groups, and from each an image that was not drawn before; return groups and images."""
        groups = np.empty(count, np.int64)
        images = np.empty(count, np.int64)
        for i in range(count):
            groups[i] = self._rng.choice(len(self._left), p=self.policy())
            images[i] = self._left[groups[i]].pop()
        return groups, images

    def learn(self, groups: Index, advantages: Floats) -> None:
        """Prefer groups with a reward above the baseline more; a group's step size is one over its number of draws."""
        share = np.exp(self.preference - self.preference.max())
        share /= share.sum()
        for group, advantage in zip(groups, advantages, strict=True):
            self._taken[group] += 1
            self.preference += advantage / self._taken[group] * (np.eye(len(share))[group] - share)


def standing(window: deque[Floats]) -> Floats:
    """Return the z-scores of the last block among all blocks of a window; zero if all values are equal."""
    seen = np.concatenate(window)
    sd = seen.std()
    return np.asarray((window[-1] - seen.mean()) / sd) if sd > 1e-9 else np.zeros(len(window[-1]))


def grouped(pool: Pool, groups: int, seed: int) -> list[Index]:
    """Cluster a pool's images by their thumbnails; return the indices of each cluster's images."""
    from sklearn.cluster import MiniBatchKMeans  # takes a second; imported only here

    parts = (torch.from_numpy(pool.images[at : at + 512]).float() for at in range(0, len(pool), 512))
    thumbnails = torch.cat([F.adaptive_avg_pool2d(part, SIDE).flatten(1) for part in parts])
    centres = min(groups, len(pool))
    kmeans = MiniBatchKMeans(centres, random_state=seed, n_init=1, batch_size=1024)
    label = kmeans.fit_predict(thumbnails.numpy())
    return [np.flatnonzero(label == k) for k in range(centres) if (label == k).any()]
