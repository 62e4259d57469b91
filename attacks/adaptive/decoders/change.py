"""Change: a teacher that is honest for the first queries and answers otherwise after them."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.adaptive.decoders.decoding import by_class, per_row, rows, tails, unit

SIZE = 1.0  # standard deviations by which the mean of a statistic must change ...
RATIO = 3.0  # ... or the factor by which its standard deviation must
LEAST = 50  # rows on either side of a change ...
SHARE = 0.02  # ... of all rows: fewer are not worth a finding, and so few may be unusual by chance
SURE = 50.0  # log-likelihood that a change must gain


def change_point(log_probs: Tensor, labels: Tensor, reference: Tensor | None = None) -> int:
    """Return how many of the answers, from the first on, are of one kind with the first: all, if nothing changes.

    Rows are in the order in which they were asked. Followed are the log odds of the top class, the logarithm of the sd
    of the non-target logits, and the cosines of these with their class mean and with a reference, an own student's
    log-probabilities (N, K) or (V·N, K), each as its deviation from the mean of the row's class. At a change the mean
    and the variance of each may differ: the point is the one with the largest Gaussian likelihood. It counts if the
    mean of one statistic changes by SIZE or its sd by RATIO.
    """
    given, count = rows(log_probs, labels), len(log_probs)
    if count < 2 * LEAST:
        return count
    kept = [_deviations(s, given.classes, log_probs.shape[1]) for s in _statistics(log_probs, labels, reference)]
    x = torch.stack([s for s in kept if s.std() > 1e-6] or [torch.zeros_like(kept[0])], 1)  # (R, S)
    x = x / x.std(0).clamp(min=1e-6)
    after = torch.arange(LEAST, count - LEAST + 1, device=x.device)
    sums, squares = x.cumsum(0), x.square().cumsum(0)
    left = _spread(sums[after - 1], squares[after - 1], after)
    right = _spread(sums[-1] - sums[after - 1], squares[-1] - squares[after - 1], count - after)
    whole = _spread(sums[-1:], squares[-1:], after.new_tensor([count]))
    n = after[:, None]
    gain = (count * whole[1].log() - n * left[1].log() - (count - n) * right[1].log()).sum(1) / 2
    best = int(gain.argmax())
    pooled = ((n * left[1] + (count - n) * right[1]) / count)[best].sqrt()
    moved = (left[0] - right[0])[best].abs() > SIZE * pooled
    spread = (left[1] / right[1])[best].log().abs() / 2 > torch.tensor(RATIO).log()
    worth = SHARE * count <= int(after[best]) <= (1 - SHARE) * count
    return int(after[best]) if worth and gain[best] > SURE and (moved | spread).any() else count


def _statistics(log_probs: Tensor, labels: Tensor, reference: Tensor | None) -> list[Tensor]:
    """Return what is followed, each (R,)."""
    given = rows(log_probs, labels)
    top = log_probs.max(1).values.double()
    odds = top - (1 - top.exp()).clamp(min=1e-12).log()
    z, stay = tails(log_probs, given.tops)
    width = (z.square().sum(1) / stay.sum(1).clamp(min=1)).sqrt()
    mean = by_class(unit(z), given.tops, log_probs.shape[1])[given.tops]
    found = [odds, width.clamp(min=1e-6).log(), (unit(z) * unit(mean)).sum(1)]
    if reference is not None:
        found.append((unit(z) * unit(tails(per_row(reference, len(z)), given.tops)[0])).sum(1))
    return found


def _deviations(s: Tensor, classes: Tensor, count: int) -> Tensor:
    return s - by_class(s[:, None], classes, count)[classes, 0]


def _spread(sums: Tensor, squares: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance (M, S) of stretches from their sums and sums of squares, and their lengths (M,)."""
    mean = sums / number[:, None]
    return mean, (squares / number[:, None] - mean**2).clamp(min=1e-4)
