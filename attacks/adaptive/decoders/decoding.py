"""What a decoder returns, and the small parts that decoders share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from teachers.task import UNLABELLED


class Decoding(NamedTuple):
    """What answers mean once they are decoded, and one plain sentence about it."""

    log_probs: Tensor  # (V·N, K), view by view; −inf where the surface hides a class
    told: str  # e.g. "scale 7.7"; empty if nothing was found, and then the answers are those that were given


def unchanged(log_probs: Tensor) -> Decoding:
    """Return the answers as they are: nothing was found."""
    return Decoding(log_probs, "")


class Rows(NamedTuple):
    """Answers row by row, with the label, the target and the image of every row."""

    log_probs: Tensor  # (R, K)
    labels: Tensor  # (R,), UNLABELLED where unknown
    tops: Tensor  # (R,), the class that the teacher names
    images: Tensor  # (R,), the number of the row's image

    @property
    def classes(self) -> Tensor:
        """Return the label of every row, or the teacher's top class where it is unknown, (R,)."""
        return torch.where(self.labels == UNLABELLED, self.tops, self.labels)

    @property
    def full(self) -> Tensor:
        """Return which rows show every class, (R,)."""
        return self.log_probs.isfinite().all(1)


def rows(log_probs: Tensor, labels: Tensor) -> Rows:
    """Return the rows of answers (V·N, K) about N images; `labels` holds one label an image, or one a row."""
    number = len(labels)
    if number == 0 or len(log_probs) % number:
        raise ValueError(f"{len(log_probs)} answers are no whole number of views of {number} images")
    views = len(log_probs) // number
    images = torch.arange(number, device=labels.device).repeat(views)
    return Rows(log_probs, labels.repeat(views), log_probs.argmax(1), images)


def per_row(reference: Tensor, count: int) -> Tensor:
    """Return one row of `reference` for every one of `count` answers: it holds one row an image, or one an answer."""
    if len(reference) == 0 or count % len(reference):
        raise ValueError(f"a reference of {len(reference)} rows does not fit {count} answers")
    return reference.repeat(count // len(reference), 1)


def tails(log_probs: Tensor, *left_out: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits (R, K), centred over the classes that stay and 0 elsewhere, and which stay (R, K)."""
    stay = log_probs.isfinite()
    for classes in left_out:
        stay = stay & ~F.one_hot(classes, log_probs.shape[1]).bool()
    z = torch.where(stay, log_probs.double(), 0.0)
    mean = z.sum(1, keepdim=True) / stay.sum(1, keepdim=True).clamp(min=1)
    return torch.where(stay, z - mean, 0.0), stay


def hidden(log_probs: Tensor, labels: Tensor, which: Tensor) -> Tensor:
    """Return answers (V·N, K) whose rows in `which` (V·N,) hide all classes but the label, or else the top class."""
    target = rows(log_probs, labels).classes[which]
    answers = log_probs.clone()
    answers[which] = torch.where(F.one_hot(target, log_probs.shape[1]).bool(), 0.0, -torch.inf).to(log_probs.dtype)
    return answers


def unit(x: Tensor) -> Tensor:
    """Return rows (R, K) of length 1; rows of zeros stay zeros."""
    length: Tensor = x.norm(dim=1, keepdim=True)
    return x / length.clamp(min=1e-12)


def by_class(x: Tensor, classes: Tensor, count: int) -> Tensor:
    """Return the mean row of each of `count` classes, (count, M), of rows (R, M); zeros where a class has none."""
    sums = torch.zeros(count, x.shape[1], dtype=x.dtype, device=x.device).index_add(0, classes, x)
    return sums / torch.bincount(classes, minlength=count).clamp(min=1)[:, None]


def share(which: Tensor) -> float:
    """Return the share of True."""
    return float(which.double().mean())


def few(classes: int) -> float:
    """Return the share of the answers below which a finding may be chance: the larger, the fewer classes there are."""
    return max(0.05, 1 / classes)


def halves(given: Rows) -> Tensor:
    """Return which rows belong to the first half, (R,): every second image of each class, with all of its views."""
    number = int(given.images.max()) + 1 if len(given.images) else 0
    classes = given.classes[:number]
    order = classes.argsort(stable=True)
    ranks = torch.arange(number, device=order.device) - torch.searchsorted(classes[order], classes[order])
    first = torch.zeros(number, dtype=torch.bool, device=order.device)
    first[order] = ranks % 2 == 0
    return first[given.images]


def distinct(x: Tensor) -> Tensor:
    """Return the values of x without repeats, rising."""
    values: Tensor = torch.unique(x)
    return values


def images_of(classes: Tensor, images: Tensor, count: int) -> Tensor:
    """Return the number of images of each of `count` classes, (count,), from the class and the image of every row."""
    pairs = torch.unique(torch.stack([classes, images], 1), dim=0)
    return torch.bincount(pairs[:, 0], minlength=count)
