"""Lies: a teacher that answers honestly only at times, and otherwise tells nothing about the image."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from attacks.adaptive.decoders.decoding import (
    Decoding,
    by_class,
    few,
    hidden,
    rows,
    share,
    tails,
    unchanged,
    unit,
)
from attacks.adaptive.decoders.evidence import SURE, WORTH, Evidence, evidence
from attacks.adaptive.decoders.trust import trust

LESS = 0.4  # of what the other answers tell about their images: what lies tell at most
DISTRUST = 0.3  # weight of a class below which its answers may be lies
STEPS = 40
STARTS = (0.2, 0.5, 0.8)  # shares of the rows from which the fit of two groups starts
ROWS, IMAGES = 100, 20  # rows and images that a group has, at least


def lies(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Decoding:
    """Return answers without those that tell nothing about their image: they hide all classes but the target.

    `reference` holds the log-probabilities (N, K) or (V·N, K) of an own student trained without the teacher, which sees
    in an image what an honest answer says about it, too. Answers are parted in two groups by their shape alone (as
    queries, or as images with all of their views), as every other query, and by the trust in their class. A group is
    one of lies if it agrees with the reference by less than LESS of what the rest does, and surely so.
    """
    decoded, told = log_probs, []
    for name, group, shape in _groups(log_probs, labels, reference):
        which = _untrue(decoded, labels, reference, group)
        if which is None:
            continue
        if shape is not None:
            finer = _refined(shape, which, evidence(decoded, labels, reference, alike=True))
            which = which if _untrue(decoded, labels, reference, finer) is None else finer
        decoded = hidden(decoded, labels, which)
        told.append(f"{100 * share(which):.0f} % {name}")
    if not told:
        return unchanged(log_probs)
    return Decoding(decoded, "tell nothing about the image and are left out: " + ", ".join(told))


def _groups(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Yield ways to part the answers in two: a name, a mask (R,), and the shape (R, S) by which they differ, if any."""
    given, k = rows(log_probs, labels), log_probs.shape[1]
    if k < 4 or not given.full.any():
        return
    yield "of the answers, every other query", torch.arange(len(log_probs), device=log_probs.device) % 2 == 0, None
    shape = _shape(log_probs, labels)
    yield "of the answers, by their shape", _two(shape, given.full), shape
    if len(log_probs) > len(labels):
        some = by_class(given.full.double()[:, None], given.images, len(labels))[:, 0]
        mean = by_class(shape, given.images, len(labels)) / some.clamp(min=1e-12)[:, None]
        yield "of the answers, by their image", _two(mean, some > 0)[given.images], mean[given.images]
    yield "of the answers, by their class", (trust(log_probs, labels, reference) < DISTRUST)[given.classes], None


def _untrue(log_probs: Tensor, labels: Tensor, reference: Tensor, group: Tensor) -> Tensor | None:
    """Return which of the two groups, as a mask (R,), tells nothing although the other one does; None if neither."""
    given, k = rows(log_probs, labels), log_probs.shape[1]
    parts = [group & given.full, ~group & given.full]
    if any(int(p.sum()) < ROWS or len(torch.unique(given.images[p])) < IMAGES for p in parts):
        return None
    found = []
    for part in parts:
        told = evidence(hidden(log_probs, labels, ~part), labels, reference, alike=True).cosines()[part]
        where = torch.unique(given.images[part], return_inverse=True)[1]
        means = by_class(told[:, None], where, int(where.max()) + 1)[:, 0]
        found.append((float(told.mean()), float(means.std()) / len(means) ** 0.5))
    low, high = sorted((0, 1), key=lambda i: found[i][0])
    (least, error), (most, _) = found[low], found[high]
    true = most > WORTH and least + SURE * error < LESS * most
    return parts[low] if true and share(parts[low]) >= few(k) else None


def _refined(shape: Tensor, which: Tensor, told: Evidence) -> Tensor:
    """Return the group of lies (R,) once it is one: fitted again, with how each answer agrees with the reference."""
    use = told.theirs > 0
    x = torch.cat([shape, told.cosines()[:, None]], 1)[use]
    finer = which.clone()
    finer[use] = _mixtures(x / x.std(0).clamp(min=1e-6), which[use].double()[None])[0][0] > 0.5
    return finer


def _shape(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return what is known of an answer without a reference, (R, S), as deviations from the mean of its class.

    These are the log odds of the top class, the logarithm of the sd of the other logits, and the cosines of these with
    the mean of the class and with those of the image's other views.
    """
    given, k = rows(log_probs, labels), log_probs.shape[1]
    full, views = given.full[:, None], len(log_probs) // len(labels)
    top = log_probs.max(1).values.double()
    z, stay = tails(log_probs, given.tops)
    z = torch.where(full, z, 0.0)
    width = (z.square().sum(1) / stay.sum(1).clamp(min=1)).sqrt()
    one = unit(z)
    mean = by_class(one, given.tops, k)[given.tops]
    columns = [top - (1 - top.exp()).clamp(min=1e-6).log(), width.clamp(min=1e-3).log(), (one * unit(mean)).sum(1)]
    if views > 1:
        own = by_class(one, given.images, len(labels))[given.images] * views - one
        columns.append((one * unit(own)).sum(1))
    x = torch.where(full, torch.stack(columns, 1), 0.0)
    centre = by_class(x, given.classes, k) / by_class(full.double(), given.classes, k).clamp(min=1e-12)
    return torch.where(full, x - centre[given.classes], 0.0)


def _two(x: Tensor, use: Tensor) -> Tensor:
    """Return which rows of x (R, S) belong to the first of two normal groups, fitted by EM to the rows in use."""
    fit = x[use]
    fit = fit / fit.std(0).clamp(min=1e-6)
    if len(fit) < 2 * ROWS:
        return torch.zeros_like(use)
    starts = [fit[:, j] < fit[:, j].quantile(s) for j in range(1, fit.shape[1]) for s in STARTS]
    odds, likely = _mixtures(fit, torch.stack(starts).double())
    first = torch.zeros_like(use)
    first[use] = odds[likely.argmax()] > 0.5
    return first


def _mixtures(x: Tensor, odds: Tensor) -> tuple[Tensor, Tensor]:
    """Return the odds of the first group after EM from several odds of rows x (R, S), (B, R), and log-likelihoods (B,).

    Moments and distances are linear in 1, x and x·xᵀ of a row: all starts are two products of matrices a step.
    """
    r, s = x.shape
    features = torch.cat([x.new_ones(r, 1), x, (x[:, :, None] * x[:, None, :]).flatten(1)], 1)  # (R, 1 + S + S²)
    eye, total = 1e-3 * torch.eye(s, dtype=x.dtype, device=x.device), x.new_zeros(len(odds))
    for _ in range(STEPS):
        moments = torch.stack([odds, 1 - odds]) @ features  # (2, B, F)
        number = moments[..., :1].clamp(min=1.0)
        weight, mean, square = torch.split(moments / number, [1, s, s * s], dim=-1)
        outer = mean[..., :, None] * mean[..., None, :]
        spread = square.view(2, len(odds), s, s) - (2 - weight[..., None]) * outer + eye  # (2, B, S, S)
        chol = torch.linalg.cholesky(spread)
        inverse = torch.cholesky_inverse(chol)
        turned = (inverse @ mean[..., None])[..., 0]
        distance = torch.cat([(mean * turned).sum(-1, keepdim=True), -2 * turned, inverse.flatten(-2)], -1)
        height = (number[..., 0] / r).log() - chol.diagonal(dim1=-2, dim2=-1).log().sum(-1)  # (2, B)
        logs = height[..., None] - distance @ features.T / 2  # (2, B, R)
        both = logs.logsumexp(0)
        total, odds = both.sum(1), (logs[0] - both).exp()
    return odds, total
