"""Moved: a teacher that swaps its top class with another one, for all images or some."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.adaptive.decoders.decoding import Decoding, Rows, by_class, few, per_row, rows, share, unchanged
from teachers.task import UNLABELLED

BOLD = 0.75  # times the lead of right answers that mistakes must have; an ordinary teacher's have less than half
SURE = 4.0  # standard errors over images by which mistaken answers must look like those about the label


def moved(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Decoding:
    """Return answers whose top class is the label again, swapped with it, if their mistakes are none.

    `reference` holds the log-probabilities (N, K) or (V·N, K) of an own student trained without the teacher. An answer
    that is honestly mistaken looks like one about the class that it names, its other classes like the mean of the
    reference about that class, and it is less sure of itself than one that names the label. Where it is as sure, and
    the others agree better with the mean about the label, the top class was moved.
    """
    given, k = rows(log_probs, labels), log_probs.shape[1]
    wrong = given.full & (given.labels != UNLABELLED) & (given.labels != given.tops)
    if k < 4 or share(wrong) < few(k):
        return unchanged(log_probs)
    own = per_row(reference, len(log_probs)).double()
    known = given.labels != UNLABELLED
    means = by_class((own - own.mean(1, keepdim=True))[known], given.labels[known], k)
    y, top, z = given.labels[wrong], given.tops[wrong], log_probs[wrong].double()
    stay = ~(F.one_hot(y, k) | F.one_hot(top, k)).bool()
    looks = _cosine(z, means[y], stay) - _cosine(z, means[top], stay)
    if not _surely_above_zero(looks, given.images[wrong]) or not _is_bold(log_probs, given, wrong):
        return unchanged(log_probs)
    pair, decoded = torch.stack([y, top], 1), log_probs.clone()
    decoded[wrong] = log_probs[wrong].scatter(1, pair, log_probs[wrong].gather(1, pair.flip(1)))
    return Decoding(decoded, f"top class moved in {100 * share(wrong):.0f} % of the answers")


def _surely_above_zero(looks: Tensor, images: Tensor) -> bool:
    where = torch.unique(images, return_inverse=True)[1]
    mean = by_class(looks[:, None], where, int(where.max()) + 1)[:, 0]
    return len(mean) > 1 and bool(mean.mean() > SURE * mean.std() / len(mean) ** 0.5)


def _is_bold(log_probs: Tensor, given: Rows, wrong: Tensor) -> bool:
    """Return whether the top class leads the label in mistakes as it leads the second class where it is the label."""
    lead = log_probs.max(1).values - log_probs.gather(1, given.labels.clamp(min=0)[:, None])[:, 0]
    pair = log_probs.topk(2, 1).values
    right = given.full & (given.labels == given.tops)
    if not right.any():
        return True
    return bool(lead[wrong].median() > BOLD * (pair[:, 0] - pair[:, 1])[right].median())


def _cosine(a: Tensor, b: Tensor, stay: Tensor) -> Tensor:
    """Return the cosines (R,) of rows, centred over the classes that stay."""
    a, b = (torch.where(stay, x - (x * stay).sum(1, keepdim=True) / stay.sum(1, keepdim=True), 0.0) for x in (a, b))
    return F.cosine_similarity(a, b)
