"""Moved: a teacher that swaps its top class with another one, for all images or some."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.adaptive.decoders.decoding import Decoding, by_class, few, per_row, rows, share, unchanged
from teachers.task import UNLABELLED

SURE = 4.0  # standard errors over images by which mistaken answers must look like those about the label


def moved(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Decoding:
    """Return answers whose top class is the label again, swapped with it, if their mistakes are none.

    `reference` holds the log-probabilities (N, K) or (V·N, K) of an own student trained without the teacher. An answer
    that is honestly mistaken looks like one about the class that it names: its other classes agree with the mean of the
    reference about that class. Where they agree better with the mean about the label, the top class was moved.
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
    by_image = by_class(looks[:, None], torch.unique(given.images[wrong], return_inverse=True)[1], len(labels))[:, 0]
    by_image = by_image[: len(torch.unique(given.images[wrong]))]
    if len(by_image) < 2 or by_image.mean() <= SURE * by_image.std() / len(by_image) ** 0.5:
        return unchanged(log_probs)
    pair, decoded = torch.stack([y, top], 1), log_probs.clone()
    decoded[wrong] = log_probs[wrong].scatter(1, pair, log_probs[wrong].gather(1, pair.flip(1)))
    return Decoding(decoded, f"top class moved in {100 * share(wrong):.0f} % of the answers")


def _cosine(a: Tensor, b: Tensor, stay: Tensor) -> Tensor:
    """Return the cosines (R,) of rows, centred over the classes that stay."""
    a, b = (torch.where(stay, x - (x * stay).sum(1, keepdim=True) / stay.sum(1, keepdim=True), 0.0) for x in (a, b))
    return F.cosine_similarity(a, b)
