"""Evidence: how much answers tell about single images, by what an own student sees in the same images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.adaptive.decoders.decoding import by_class, per_row, rows, tails, unit

SURE = 4.0  # standard errors over images by which one way to read answers must agree better than another
WORTH = 0.1  # ... and the cosine that it must have at least


class Evidence(NamedTuple):
    """Inner products, row by row, of what the teacher and an own student say about an image beyond its class.

    Compared are the logits of the classes other than label and top class, as their deviations from the mean of the
    row's class: an ordinary teacher's agree with the student's, as both look at the image. Lies and labels do not.
    """

    joint: Tensor  # (R,)
    theirs: Tensor  # (R,)
    ours: Tensor  # (R,)
    images: Tensor  # (R,)

    def cosine(self) -> float:
        """Return the cosine of all rows taken together; 0 where the teacher says nothing."""
        return float(self.joint.sum() / (self.theirs.sum() * self.ours.sum()).sqrt().clamp(min=1e-12))

    def cosines(self) -> Tensor:
        """Return the cosine of each row, (R,); 0 where it says nothing."""
        return self.joint / (self.theirs * self.ours).sqrt().clamp(min=1e-12)

    def gains(self) -> Tensor:
        """Return the share of each image in the cosine, (N,): their mean is the cosine."""
        scale = (self.theirs.sum() * self.ours.sum()).sqrt().clamp(min=1e-12)
        number = int(self.images.max()) + 1
        return by_class(self.joint[:, None], self.images, number)[:, 0] * len(self.joint) / scale


def evidence(log_probs: Tensor, labels: Tensor, reference: Tensor, *, alike: bool = False) -> Evidence:
    """Compare answers (V·N, K) with the log-probabilities (N, K) or (V·N, K) of a student trained without the teacher.

    With `alike` all rows count alike, and the width of their logits does not: what a row says is the order of classes.
    Rows that hide a class count as zero.
    """
    given, k = rows(log_probs, labels), log_probs.shape[1]
    stay = ~F.one_hot(given.tops, k).bool() & given.full[:, None]
    number = by_class(given.full.double()[:, None], given.classes, k).clamp(min=1e-12)
    pair = []
    for x in (log_probs, per_row(reference, len(log_probs))):
        z = torch.where(stay, tails(x, given.tops, given.classes)[0], 0.0)
        z = unit(z) if alike else z
        mean = by_class(z, given.classes, k) / number
        pair.append(torch.where(stay, z - mean[given.classes], 0.0))
    a, b = pair
    return Evidence((a * b).sum(1), a.square().sum(1), b.square().sum(1), given.images)


def better(new: Evidence, old: Evidence, factor: float) -> bool:
    """Return whether one way to read the answers agrees `factor` times better than another, and surely so."""
    gain = new.gains() - old.gains()
    sure = len(gain) > 1 and bool(gain.mean() > SURE * gain.std() / len(gain) ** 0.5)
    return sure and new.cosine() > max(WORTH, factor * old.cosine())
