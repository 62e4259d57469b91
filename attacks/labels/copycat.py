"""CopycatCNN: copy a network from its hard labels of unrelated images (Correia-Silva et al., IJCNN 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Index, Lab, draw
from attacks.surrogate.knockoff import lengthened
from teachers.surface import Answers
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class Copycat(Attack):
    """Cross entropy with the teacher's top class of unrelated images; `balance` makes all classes equally frequent."""

    name = "copycat"
    title = "Copycat CNN"
    paper = "Correia-Silva, Berriel, Badue, de Souza & Oliveira-Santos, IJCNN 2018, arXiv 1806.05476"
    published = "at least 93.7 % of the target's performance with images of other problems (abstract)"
    needs = "label"
    holds = "surrogate"

    queries: int = 20_000
    longer: float = 4.0  # multiple of the recipe's steps
    balance: bool = True

    @classmethod
    def grid(cls) -> tuple[Copycat, ...]:
        return cls(), cls(balance=False)

    def run(self, lab: Lab) -> Student:
        only = draw(lab.surrogate, lab.spend(self.queries), lab.seed)
        labels = lab.answers("raw", pool=lab.surrogate, only=only).labels
        if self.balance:
            rows = balanced(labels.numpy(), lab.seed)
            only, labels = only[rows], labels[torch.from_numpy(rows)]
        stream = lab.stream("raw", Answers("label", labels), pool=lab.surrogate.take(only), source="surrogate")
        return lab.fit(stream, copied, lengthened(lab.recipe, self.longer))


def balanced(labels: Index, seed: int) -> Index:
    """Draw as many rows as there are labels, equally many of every class seen; rows may repeat or be left out."""
    rng = np.random.default_rng(seed)
    seen = np.unique(labels)
    share = [len(part) for part in np.array_split(np.arange(len(labels)), len(seen))]
    return np.concatenate(
        [np.resize(rng.permutation(np.flatnonzero(labels == c)), n) for c, n in zip(seen, share, strict=True)]
    )


def copied(outputs: Outputs, batch: Batch, step: int) -> Tensor:
    """Return the cross entropy with the teacher's top class."""
    assert batch.answers is not None
    return F.cross_entropy(outputs.logits, batch.answers.labels)
