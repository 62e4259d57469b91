"""Floor: a teacher that mixes its answers, or some of them, with the uniform distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attacks.adaptive.decoders.decoding import Decoding, by_class, rows, share, unchanged

WIDTH = 0.005  # nats: of a window that holds the smallest probabilities of mixed answers
LEAST = 0.1  # share of the rows, at least, whose smallest probabilities lie in one window
ROWS = 8  # ... and how many of them, at least
ONE = 0.9  # share of these rows that may have one top class: a class of equal answers has one smallest probability, too
FINEST = 1e-6  # of the floor: what is left of a probability at least, since answers are no finer


def floor(log_probs: Tensor, labels: Tensor) -> Decoding:
    """Return answers without their uniform part: p = (p' − f) / (1 − K f).

    f is the smallest probability in the fullest window of WIDTH over the rows' smallest ones: p' = (1 − ε) p + ε/K
    never lies below ε/K, and an ordinary teacher's smallest probabilities differ by far more. Mixed are the rows in the
    window and, in classes where most rows are, those above it. Answers that hold nothing but the floor beside their top
    class stay as they are.
    """
    given, k = rows(log_probs, labels), log_probs.shape[1]
    full = given.full
    if k < 3 or not full.any():
        return unchanged(log_probs)
    p = log_probs.double()
    lowest = torch.where(full, p.min(1).values, -math.inf)
    level = _fullest(lowest[full])
    inside = full & (lowest >= level) & (lowest <= level + WIDTH)
    most = by_class(inside.double()[:, None], given.tops, k)[given.tops, 0] > 0.5
    mixed = full & (inside | (most & (lowest >= level)))
    second = p.topk(2, 1).values[:, 1]
    many = share(inside) >= LEAST and int(inside.sum()) >= ROWS and _several(given.tops[inside])
    if not many or share(second[mixed] > level + WIDTH) < 0.5 or k * math.exp(level) >= 1:
        return unchanged(log_probs)
    f = math.exp(level)
    rest = (p.exp() - f).clamp(min=FINEST * f).log().log_softmax(1)
    decoded = torch.where(mixed[:, None], rest, p).to(log_probs.dtype)
    return Decoding(decoded, f"uniform part of {k * f:.2g} in {100 * share(mixed):.0f} % of the answers")


def _several(tops: Tensor) -> bool:
    return int(torch.bincount(tops).max()) <= ONE * len(tops)


def _fullest(values: Tensor) -> float:
    """Return the lower end of the window of WIDTH that holds the most values."""
    low = values.sort().values
    held = torch.searchsorted(low, low + WIDTH, right=True) - torch.arange(len(low), device=low.device)
    return float(low[held.argmax()])
