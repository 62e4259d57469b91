"""Trust: for which classes a teacher's answers tell more about an image than its class does."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.adaptive.decoders.decoding import by_class, distinct, per_row, rows, tails

LEAST = 4  # images of a class
BEST = 0.75  # quantile of the classes' gains that counts as full trust


def trust(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Tensor:
    """Return the weight of each class, (K,) in [0, 1]: how much its decoded answers tell about single images.

    Predicted are the reference's non-target logits (an own student's, trained without the teacher): by their mean over
    the class, and by this plus β_y times the deviation of the teacher's logits from their mean. Means and β_y are
    fitted on one half of the images and errors are measured on the other, both ways round. With g_y the share of the
    squared error that the teacher saves and t_y its mean over its standard error, α_y = sqrt(g_y⁺ (1 − 1/t_y²)⁺),
    divided by its upper quartile over the classes that gain, and at most 1. A class of fewer than LEAST images gets
    the mean of the others; all are 0 if no class gains.
    """
    given = rows(log_probs, labels)
    use = given.full & (given.classes == given.tops)
    k = log_probs.shape[1]
    alpha = torch.full((k,), float("nan"), dtype=torch.float64, device=log_probs.device)
    theirs, ours = tails(log_probs, given.tops)[0], tails(per_row(reference, len(log_probs)), given.tops)[0]
    for y in range(k):
        mine = use & (given.classes == y)
        if len(distinct(given.images[mine])) >= LEAST:
            alpha[y] = _gain(theirs[mine], ours[mine], given.images[mine])
    if not alpha.isfinite().any():
        return torch.zeros_like(alpha)
    alpha = torch.where(alpha.isfinite(), alpha, alpha[alpha.isfinite()].mean())
    full = alpha[alpha > 0].quantile(BEST) if (alpha > 0).any() else alpha.new_ones(())
    return (alpha / full).clamp(0, 1)


def _gain(theirs: Tensor, ours: Tensor, images: Tensor) -> Tensor:
    """Return sqrt(g⁺ (1 − 1/t²)⁺) of one class, rows (n, K)."""
    numbers, where = torch.unique(images, return_inverse=True)
    first = where % 2 == 0
    saved, error = torch.zeros_like(ours[:, 0]), torch.zeros_like(ours[:, 0])
    for half in (first, ~first):
        a, b = theirs - theirs[half].mean(0), ours - ours[half].mean(0)
        beta = (a[half] * b[half]).sum() / a[half].square().sum().clamp(min=1e-12)
        error[~half] = b[~half].square().sum(1)
        saved[~half] = error[~half] - (b - beta * a)[~half].square().sum(1)
    by_image = by_class(saved[:, None], where, len(numbers))[:, 0]
    t = by_image.mean() / (by_image.std() / len(numbers) ** 0.5).clamp(min=1e-12)
    g = saved.mean() / error.mean().clamp(min=1e-12)
    sure: Tensor = (1 - 1 / t.square().clamp(min=1e-12)).clamp(min=0)
    return (g.clamp(min=0) * sure).sqrt()
