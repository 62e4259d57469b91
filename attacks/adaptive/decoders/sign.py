"""Sign: a teacher that reverses the order of the non-target classes, for all images, some classes or some images."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.adaptive.decoders.decoding import (
    Decoding,
    by_class,
    distinct,
    few,
    images_of,
    per_row,
    rows,
    share,
    tails,
    unchanged,
    unit,
)

APART = 2.5  # mean over sd of a row's agreement from which the answers tell the sign of a single row
SURE = 4.0  # standard errors by which the mean agreement of a class must be below zero, where rows alone do not tell
CHANCE = 1.5  # times the sd of the cosine of two random directions: classes agree by less if their orders are permuted
STEPS = 50


def sign(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Decoding:
    """Return answers whose reversed rows are turned back: z'_j = −z_j, centred over all classes but the top one.

    `reference` holds the log-probabilities (N, K) or (V·N, K) of an own student trained without the teacher. A row
    agrees with it by the cosine s of its non-target logits with the reference's, those of the image plus their class
    mean. s is m or, in reversed rows, −m with one variance v; the share of reversed rows is the class's own; the
    mixture is fitted by EM. Where single rows do not tell (m < APART √v), a class has one sign, that of its mean.
    A teacher may also hand the values out in reversed order; of the two ways back, the one that agrees better is taken.
    """
    given = rows(log_probs, labels)
    full, k = given.full, log_probs.shape[1]
    if k < 3 or not full.any():
        return unchanged(log_probs)
    own = _direction(log_probs, labels, reference)
    s = (unit(tails(log_probs, given.tops, given.classes)[0]) * own).sum(1)
    turned = full.clone()
    turned[full] = _turned(s[full], given.tops[full], given.images[full], k)
    counts = by_class(turned.double()[:, None], given.tops, k)[:, 0]  # share of each class that is reversed
    if share(turned) < few(k):
        return unchanged(log_probs)
    ways = [_reflected(log_probs[turned], given.tops[turned]), _mirrored(log_probs[turned], given.tops[turned])]
    agreement = [float((unit(tails(way, given.tops[turned])[0]) * own[turned]).sum()) for way in ways]
    decoded = log_probs.clone()
    decoded[turned] = ways[agreement[1] > 1.01 * agreement[0]]
    return Decoding(decoded, "order of the non-target classes reversed" + _where(turned, counts, given.tops))


def _direction(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Tensor:
    """Return the unit vectors in which an honest row's non-target logits would point, (R, K)."""
    given = rows(log_probs, labels)
    theirs = unit(tails(per_row(reference, len(log_probs)), given.tops, given.classes)[0])
    mean = by_class(theirs, given.tops, log_probs.shape[1])[given.tops]
    keep = ~torch.nn.functional.one_hot(given.classes, log_probs.shape[1]).bool()
    return unit(unit(torch.where(keep, mean, 0.0)) + theirs)


def _turned(s: Tensor, tops: Tensor, images: Tensor, classes: int) -> Tensor:
    """Return which rows are reversed, from their agreement s (R,)."""
    odds = (s < 0).double()

    for _ in range(STEPS):
        signed = (1 - 2 * odds) * s
        m, v = signed.mean(), signed.var(correction=0).clamp(min=1e-6)
        shares = (by_class(odds[:, None], tops, classes)[tops, 0] * 0.98 + 0.01).logit()
        odds = (shares - 2 * m * s / v).sigmoid()
    if m > APART * v.sqrt():
        return odds > 0.5
    mean = by_class(s[:, None], tops, classes)[:, 0]
    spread = by_class((s - mean[tops]).square()[:, None], tops, classes)[:, 0].sqrt()
    number = images_of(tops, images, classes)
    if mean[number > 0].abs().mean() < min(0.5, CHANCE / (classes - 2) ** 0.5):
        return torch.zeros_like(s, dtype=torch.bool)
    return (mean < -SURE * spread / number.clamp(min=1).sqrt())[tops]


def _reflected(log_probs: Tensor, tops: Tensor) -> Tensor:
    """Return log softmax of the logits, those of all classes but the top one reflected at their mean."""
    z, stay = tails(log_probs, tops)
    return torch.where(stay, log_probs - 2 * z, log_probs.double()).log_softmax(1).to(log_probs.dtype)


def _mirrored(log_probs: Tensor, tops: Tensor) -> Tensor:
    """Return the same values, those of all classes but the top one handed out in reversed order."""
    order = log_probs.argsort(dim=1, descending=True, stable=True)
    order = torch.cat([tops[:, None], order[order != tops[:, None]].view(len(order), -1)], 1)
    values = log_probs.gather(1, order)
    return torch.zeros_like(values).scatter(1, order, torch.cat([values[:, :1], values[:, 1:].flip(1)], 1))


def _where(turned: Tensor, counts: Tensor, tops: Tensor) -> str:
    """Return for which answers, as the end of a sentence."""
    if share(turned) > 0.98:
        return ""
    asked = counts[distinct(tops)]
    if ((asked > 0.95) | (asked < 0.05)).all():
        return f" for {int((asked > 0.5).sum())} of {len(asked)} classes"
    return f" in {100 * share(turned):.0f} % of the answers"
