"""Synthetic teachers that hide what an ordinary teacher knows without removing it: what an adaptive attack must undo.

All but `ClassMeans` show an ordinary teacher's answers with other classes in other places, the top class in its own: an
attacker who finds out where each number belongs has the ordinary answers. An answer depends on the image alone.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from teachers.names import PERMUTED, REVERSED_ORDER, SIGN_FLIPS
from teachers.synthetic import AlteredTeacher, LabelMemory, class_means, digests, several
from teachers.task import Task

SECRET = 20_250  # seeds what the attacker does not know


class Disguise(nn.Module, ABC):
    """An ordinary teacher that moves the logits of the classes below its top class."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return self.moved(logits, x)

    @abstractmethod
    def moved(self, logits: Tensor, x: Tensor) -> Tensor:
        """Return the logits (N, K) with those below the top class of every image in other places."""


class ReversedOrder(Disguise):
    """The class that is second best is shown as the worst, and so on; the unordered numbers stay."""

    def moved(self, logits: Tensor, x: Tensor) -> Tensor:
        return turned(logits)


class HiddenPermutation(Disguise):
    """Class j shows the logit of class π_t(j), t the top class; every π_t is a secret of its own."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__(network)
        self._table = torch.from_numpy(np.stack([_permutation(t, classes) for t in range(classes)]))  # (K, K)

    def moved(self, logits: Tensor, x: Tensor) -> Tensor:
        return logits.gather(1, self._table.to(logits.device)[logits.argmax(-1)])


class SignFlips(Disguise):
    """The order is reversed for the half of all images whose digest, under a secret key, is odd."""

    def moved(self, logits: Tensor, x: Tensor) -> Tensor:
        odd = torch.tensor([_keyed(key) & 1 for key in digests(x)], device=logits.device).bool()
        return torch.where(odd[:, None], turned(logits), logits)


class ClassMeans(AlteredTeacher):
    """Answer with Q_y, the ordinary teacher's mean answer to training images of class y.

    y is the image's label where the attacker knows it, else the teacher's top class. It says which classes are alike,
    which is as much as the teacher's accuracy makes it worth, and nothing about the image. The same means of labels
    would say nothing at all: they are `faint-truth`.
    """

    def __init__(self, network: nn.Module, held: LabelMemory, means: Tensor) -> None:
        super().__init__(network, held)
        self._log_means = means.double().log().float()  # (K, K)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        targets = self.targets(digests(x), logits)
        return self._log_means.to(logits.device)[targets]


def turned(logits: Tensor) -> Tensor:
    """Return logits (N, K) in reversed order below the top class: the largest number of the others for the smallest."""
    top = logits.argmax(-1, keepdim=True)
    order = logits.scatter(1, top, torch.inf).argsort(dim=-1, stable=True)[:, :-1]  # (N, K - 1), without the top class
    return logits.scatter(1, order, logits.gather(1, order).flip(-1))


def reversed_order(network: nn.Module, task: Task, held: LabelMemory) -> nn.Module:
    """Build the teacher of this name; raise UsageError if there are too few classes."""
    several(task, f"{REVERSED_ORDER} reverses the order of the classes below the top one")
    return ReversedOrder(network)


def permuted(network: nn.Module, task: Task, held: LabelMemory) -> nn.Module:
    """Build the teacher of this name; raise UsageError if there are too few classes."""
    several(task, f"{PERMUTED} permutes the classes below the top one")
    return HiddenPermutation(network, len(task.classes))


def sign_flips(network: nn.Module, task: Task, held: LabelMemory) -> nn.Module:
    """Build the teacher of this name; raise UsageError if there are too few classes."""
    several(task, f"{SIGN_FLIPS} reverses the order of the classes below the top one")
    return SignFlips(network)


def means(network: nn.Module, task: Task, held: LabelMemory) -> nn.Module:
    """Build the teacher that answers class means."""
    return ClassMeans(network, held, class_means(network, task.train, len(task.classes)))


def _permutation(top: int, classes: int) -> np.ndarray:
    """Return whose logit each class shows, (K,); the top class shows its own."""
    others = np.delete(np.arange(classes), top)
    return np.insert(np.random.default_rng([SECRET, top]).permutation(others), top, top)


def _keyed(key: bytes) -> int:
    return hashlib.blake2b(key, key=str(SECRET).encode(), digest_size=1).digest()[0]
