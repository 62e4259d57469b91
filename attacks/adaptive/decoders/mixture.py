"""Mixture: a teacher that answers a part of the images, or of the views, at another temperature."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.adaptive.decoders.decoding import Decoding, by_class, few, images_of, rows, share, tails, unchanged
from attacks.adaptive.decoders.scale import scaled

APART = 2.75  # distance of the two groups, in standard deviations within one, from which they are two
LEAST = 0.05  # share of a class's rows, at least, that each of its two groups holds
STARTS = (0.5, 1.0, 1.5, 2.5)  # natural logarithms of the ratio of the two scales, from which EM starts
STEPS = 100
IMAGES = 12  # of a class, at least: two groups of fewer are easily found by chance
SLIGHT = 0.4  # natural logarithm of the smallest ratio of two scales
MOST = 4.0  # ... and of the largest


def mixture(log_probs: Tensor, labels: Tensor) -> Decoding:
    """Return answers whose softer group is brought to the scale of the sharper one.

    u is the logarithm of the sd of a row's non-target logits, of which a scale c adds log c. Within the rows of a top
    class it is normal around μ_y or μ_y + Δ with one variance, fitted by EM; Δ is common, the share of the sharper
    group is the class's own. A row of the softer group is multiplied by exp Δ. Nothing changes unless Δ is APART
    standard deviations, nor in a class that has one group alone: for that there is `class_scale`.
    """
    given = rows(log_probs, labels)
    z, stay = tails(log_probs, given.tops)
    varies = (stay.sum(1) > 1) & (z.square().sum(1) > 0)
    if not varies.any():
        return unchanged(log_probs)
    u = (z[varies].square().sum(1) / stay[varies].sum(1)).log() / 2
    y, k = given.tops[varies], log_probs.shape[1]
    fits = [_fit(u, y, k, start) for start in STARTS]
    sharp, gap, sd, _ = max(fits, key=lambda fit: fit[3])
    part = by_class((sharp > 0.5).double()[:, None], y, k)[:, 0]
    two = (part > LEAST) & (part < 1 - LEAST) & (images_of(y, given.images[varies], k) >= IMAGES)
    soft = (sharp <= 0.5) & two[y]
    if not max(SLIGHT, APART * float(sd)) < gap < MOST or share(soft) < few(k):
        return unchanged(log_probs)
    c = torch.ones(len(log_probs), 1, dtype=torch.float64, device=log_probs.device)
    c[varies] = torch.where(soft, gap, 0.0).exp()[:, None]
    decoded = torch.where(c > 1, scaled(log_probs, c), log_probs)
    told = f"{100 * share(c > 1):.0f} % of the answers {float(gap.exp()):.2g} times softer than the others"
    return Decoding(decoded, told)


def _fit(u: Tensor, y: Tensor, classes: int, start: float) -> tuple[Tensor, Tensor, Tensor, float]:
    """Return the odds of the sharper group (R,), Δ, the sd within a group, and the log-likelihood."""
    low = torch.stack([u[y == c].quantile(0.15) if (y == c).any() else u.new_zeros(()) for c in range(classes)])
    gap, var, part = u.new_tensor(start), u.new_tensor((start / 4) ** 2), u.new_full((classes,), 0.5)
    for _ in range(STEPS):
        down, up = u - low[y], u - low[y] - gap
        logs = torch.stack([(1 - part[y]).log() - down**2 / (2 * var), part[y].log() - up**2 / (2 * var)])
        total = logs.logsumexp(0) - var.log() / 2
        sharp = (logs[1] - logs.logsumexp(0)).exp()
        low = by_class((u - sharp * gap)[:, None], y, classes)[:, 0]
        gap = (sharp * (u - low[y])).sum() / sharp.sum().clamp(min=1e-9)
        var = (u - low[y] - sharp * gap).square().mean() + (sharp * (1 - sharp)).mean() * gap**2
        var = var.clamp(min=1e-8)
        part = by_class(sharp[:, None], y, classes)[:, 0] * 0.98 + 0.01
    return sharp, gap, var.sqrt(), float(total.sum())
