"""Defenders of the answers of a teacher: pure functions from honest answers to those that it shows instead.

Rows are views, view by view, as decoders get them: `Honest.answers` (V·N, K) about images with `labels` (N,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Honest(NamedTuple):
    """An ordinary teacher's log-probabilities about the views of images, and a seed for what a defender draws."""

    answers: Tensor  # (V·N, K)
    labels: Tensor  # (N,)
    seed: int = 0

    @property
    def classes(self) -> int:
        return self.answers.shape[1]

    @property
    def tops(self) -> Tensor:
        return self.answers.argmax(1)

    @property
    def count(self) -> int:
        return len(self.answers)

    @property
    def images(self) -> Tensor:
        return torch.arange(len(self.labels)).repeat(self.count // len(self.labels))

    @property
    def tail(self) -> Tensor:
        """Return which entries are not the top class, (V·N, K)."""
        return ~F.one_hot(self.tops, self.classes).bool()

    def chance(self, more: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(1000 * self.seed + more)


Defender = Callable[[Honest], Tensor]


def _shown(h: Honest, tail: Tensor) -> Tensor:
    """Return answers with other non-target logits below the same top class."""
    tail = tail - torch.where(h.tail, tail, -torch.inf).logsumexp(1, keepdim=True)
    rest = torch.where(h.tail, h.answers, -torch.inf).logsumexp(1, keepdim=True)
    shown = torch.where(h.tail, tail + rest, h.answers)
    lead = torch.where(h.tail, shown, -torch.inf).amax(1, keepdim=True) + 0.05
    return torch.where(h.tail, shown, torch.maximum(shown, lead)).log_softmax(1)


def honest(h: Honest) -> Tensor:
    return h.answers


def backwards(h: Honest) -> Tensor:
    """Reflect the logits of the classes behind the top one."""
    return _shown(h, -h.answers)


def permuted(h: Honest) -> Tensor:
    """Permute the classes behind the top one, by a hidden permutation for each top class."""
    table = torch.arange(h.classes).repeat(h.classes, 1)
    for t in range(h.classes):
        others = torch.tensor([j for j in range(h.classes) if j != t])
        table[t, others] = others[torch.randperm(len(others), generator=h.chance(t))]
    return h.answers.gather(1, table[h.tops])


def backwards_and_permuted(h: Honest) -> Tensor:
    return permuted(h._replace(answers=backwards(h)))


def cold(h: Honest) -> Tensor:
    return (h.answers / 7.7).log_softmax(1)


def permuted_and_cold(h: Honest) -> Tensor:
    return cold(h._replace(answers=permuted(h)))


def labels_alone(h: Honest) -> Tensor:
    """Show the top class, smoothed."""
    return (F.one_hot(h.tops, h.classes) * (1 - 1e-4) + 1e-4 / h.classes).log()


def shuffled(h: Honest) -> Tensor:
    """Permute the classes behind the top one anew for every query: nothing is left of them."""
    noise = torch.rand(h.answers.shape, generator=h.chance())
    order = torch.where(h.tail, noise, torch.inf).argsort(1)[:, :-1]
    here = torch.where(h.tail, torch.arange(h.classes), h.classes).sort(1).values[:, :-1]
    return h.answers.scatter(1, here, h.answers.gather(1, order))


def sorted_decoys(h: Honest) -> Tensor:
    """Hand the probabilities behind the top one out in the order of the classes' numbers: nothing is left of them."""
    here = torch.where(h.tail, torch.arange(h.classes), h.classes).sort(1).values[:, :-1]
    falling = torch.where(h.tail, h.answers, -torch.inf).sort(1, descending=True).values[:, :-1]
    return h.answers.scatter(1, here, falling)


def flipped(rank: int | None) -> Defender:
    """Swap the top class with the one at a rank, or with one that is drawn for every query."""

    def shown(h: Honest) -> Tensor:
        order = h.answers.argsort(1, descending=True)
        ranks = torch.randint(1, h.classes, (h.count,), generator=h.chance()) if rank is None else rank
        other = order.gather(1, torch.as_tensor(ranks).expand(h.count)[:, None])
        pair = torch.cat([h.tops[:, None], other], 1)
        return h.answers.scatter(1, pair, h.answers.gather(1, pair.flip(1)))

    return shown


def constants(h: Honest) -> Tensor:
    """Add hidden constants behind the top class, others for each top class."""
    table = 8 * torch.randn(h.classes, h.classes, generator=h.chance())
    return _shown(h, h.answers + table[h.tops])


def biased(h: Honest) -> Tensor:
    """Add hidden constants to all logits, the same for all images: the top class may be another one."""
    return (h.answers + 4 * torch.randn(h.classes, generator=h.chance())).log_softmax(1)


def temperatures(by: str) -> Defender:
    """Answer every query, or every image, at a temperature of its own between 1/4 and 4."""

    def shown(h: Honest) -> Tensor:
        drawn = (4 ** (2 * torch.rand(h.count, generator=h.chance()) - 1))[:, None]
        return (h.answers / (drawn if by == "query" else drawn[h.images])).log_softmax(1)

    return shown


def noisy(sd: float) -> Defender:
    """Add noise to the logits behind the top class, anew for every query."""
    return lambda h: _shown(h, h.answers + sd * torch.randn(h.answers.shape, generator=h.chance()))


def rounded(digits: int) -> Defender:
    """Round probabilities; what becomes zero is hidden."""
    return lambda h: (h.answers.exp() * 10**digits).round().div(10**digits).log()


def decoys(k: int) -> Defender:
    """Show the k largest probabilities, and give what is left to the other classes as it comes."""

    def shown(h: Honest) -> Tensor:
        few = h.answers < h.answers.topk(k).values[:, -1:]
        rest = torch.where(few, h.answers, -torch.inf).logsumexp(1, keepdim=True)
        drawn = torch.where(few, 2 * torch.randn(h.answers.shape, generator=h.chance()), -torch.inf)
        return torch.where(few, drawn.log_softmax(1) + rest, h.answers).log_softmax(1)

    return shown


def mixed(size: float) -> Defender:
    """Mix the logits by a hidden invertible matrix; the top class stays on top."""

    def shown(h: Honest) -> Tensor:
        matrix = torch.eye(h.classes) + size * torch.randn(h.classes, h.classes, generator=h.chance())
        z = h.answers - h.answers.mean(1, keepdim=True)
        return _shown(h, z @ matrix.T)

    return shown


def bent(h: Honest) -> Tensor:
    """Bend the logits behind the top class by an increasing function of its own for every query."""
    z = torch.where(h.tail, h.answers, torch.inf)
    low, high = z.amin(1, keepdim=True), torch.where(h.tail, h.answers, -torch.inf).amax(1, keepdim=True)
    power = 8 ** (2 * torch.rand(h.count, 1, generator=h.chance()) - 1)
    level = ((h.answers - low) / (high - low).clamp(min=1e-6)).clamp(1e-6, 1)
    return _shown(h, level**power * (high - low) + low)


def half_soft(h: Honest) -> Tensor:
    """Mix the answers about every second class with the uniform distribution."""
    return torch.where(
        (h.tops % 2 == 0)[:, None], (0.9 * F.one_hot(h.tops, h.classes) + 0.1 * h.answers.exp()).log(), h.answers
    )


def keyed(lie: Defender, share: float, by: str = "query") -> Defender:
    """Lie about a hidden part of the queries, of the images, or of the classes; `by` "turns": every other query."""

    def shown(h: Honest) -> Tensor:
        drawn = torch.rand(max(h.count, h.classes), generator=h.chance(7)) < share
        which = {
            "query": drawn[: h.count],
            "image": drawn[h.images],
            "class": (torch.arange(h.classes) < share * h.classes)[h.tops],
            "turns": torch.arange(h.count) % 2 == 1,
        }[by]
        return torch.where(which[:, None], lie(h), h.answers)

    return shown


def turning(lie: Defender, at: float, *, first: bool = False) -> Defender:
    """Lie after a share of the queries, or before it."""

    def shown(h: Honest) -> Tensor:
        late = torch.arange(h.count) >= at * h.count
        return torch.where((late ^ first)[:, None], lie(h), h.answers)

    return shown


def both(one: Defender, other: Defender) -> Defender:
    return lambda h: other(h._replace(answers=one(h)))


LEAKS: dict[str, Defender] = {
    "backwards": backwards,
    "permuted": permuted,
    "backwards and permuted": backwards_and_permuted,
    "cold": cold,
    "permuted and cold": permuted_and_cold,
    "flipped with the second": flipped(1),
    "flipped with any": flipped(None),
    "half of the images flipped with the second": keyed(flipped(1), 0.5, "image"),
    "half of the images flipped with any": keyed(flipped(None), 0.5, "image"),
    "constants": constants,
    "biased": biased,
    "temperature by query": temperatures("query"),
    "temperature by image": temperatures("image"),
    "noisy": noisy(4.0),
    "rounded to 1 digit": rounded(1),
    "rounded to 2 digits": rounded(2),
    "decoys behind 5": decoys(5),
    "mixed a little": mixed(0.05),
    "mixed": mixed(0.25),
    "bent": bent,
    "half soft": half_soft,
    "labels for every other query": keyed(labels_alone, 0.5, "turns"),
    "labels for half of the queries": keyed(labels_alone, 0.5),
    "labels for 80 % of the queries": keyed(labels_alone, 0.8),
    "shuffled for half of the queries": keyed(shuffled, 0.5),
    "shuffled for every other query": keyed(shuffled, 0.5, "turns"),
    "labels for half of the images": keyed(labels_alone, 0.5, "image"),
    "shuffled for half of the images": keyed(shuffled, 0.5, "image"),
    "shuffled for a third of the classes": keyed(shuffled, 0.34, "class"),
    "labels after a fifth": turning(labels_alone, 0.2),
    "shuffled after a fifth": turning(shuffled, 0.2),
    "labels after a twentieth": turning(labels_alone, 0.05),
    "labels for the first third": turning(labels_alone, 0.33, first=True),
    "shuffled for the first third": turning(shuffled, 0.33, first=True),
    "permuted after a fifth": turning(permuted, 0.2),
    "permuted, then labels": both(permuted, turning(labels_alone, 0.3)),
    "noisy and permuted": both(permuted, noisy(3.0)),
    "backwards and noisy": both(backwards, noisy(3.0)),
    "backwards at temperatures": both(backwards, temperatures("query")),
    "constants at temperatures": both(constants, temperatures("query")),
    "permuted, labels for half": both(permuted, keyed(labels_alone, 0.5)),
    "backwards, shuffled for half": both(backwards, keyed(shuffled, 0.5)),
}

NOTHING: dict[str, Defender] = {
    "labels": labels_alone,
    "shuffled": shuffled,
    "sorted decoys": sorted_decoys,
    "sorted decoys and cold": both(sorted_decoys, cold),
    "shuffled, labels for half": both(shuffled, keyed(labels_alone, 0.5)),
}
"""Answers without any knowledge behind the top class."""
