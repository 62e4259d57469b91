"""Views: a teacher that adds noise to every answer, or another temperature."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.adaptive.decoders.decoding import Decoding, by_class, rows, tails, unchanged


def mean_views(log_probs: Tensor, labels: Tensor) -> Decoding:
    """Return for every view the mean of the logits of all views of its image: noise that is drawn anew becomes less."""
    given = rows(log_probs, labels)
    number = by_class(given.full.double()[:, None], given.images, len(labels))
    z = torch.where(given.full[:, None], log_probs, 0.0)
    mean = by_class(z, given.images, len(labels)) / number.to(z.dtype).clamp(min=1e-12)
    decoded = torch.where(given.full[:, None], mean.log_softmax(1)[given.images], log_probs)
    return Decoding(decoded, "noise, less in the mean over the views of an image")


def widths(log_probs: Tensor, labels: Tensor) -> Decoding:
    """Return answers at temperatures that give the non-target logits one sd in all rows of a top class.

    It is the geometric mean of those of its rows.
    """
    given, k = rows(log_probs, labels), log_probs.shape[1]
    z, stay = tails(log_probs, given.tops)
    sd = (z.square().sum(1) / stay.sum(1).clamp(min=1)).sqrt()
    use = given.full & (sd > 0)
    if not use.any():
        return unchanged(log_probs)
    mean = by_class(sd[use].log()[:, None], given.tops[use], k)[given.tops[use], 0].exp()
    decoded = log_probs.clone()
    decoded[use] = ((mean / sd[use])[:, None] * log_probs[use]).log_softmax(1).to(log_probs.dtype)
    return Decoding(decoded, "a temperature of its own for every answer")
