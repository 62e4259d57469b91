"""Unmix: a teacher whose classes are mixed by some linear map of the logits, undone with an own student's logits."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.adaptive.decoders.decoding import Decoding, halves, per_row, rows, unchanged

RIDGE = 1e-2  # of the mean square of the teacher's logits


def unmix(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Decoding:
    """Return log softmax(W z + b) of the centred log-probabilities z: what they say of the reference's logits r.

    W and b minimise the mean of ‖W z + b − r‖² + RIDGE σ² ‖W‖², σ² the mean square of z. `reference` holds the
    log-probabilities (N, K) or (V·N, K) of an own student trained without the teacher. They are fitted on one half of
    the images and applied to the other, both ways round, so that no image's own reference is in its answer.
    """
    given, k = rows(log_probs, labels), log_probs.shape[1]
    first, decoded = halves(given), log_probs.clone()
    if any(int((half & given.full).sum()) < 2 * k for half in (first, ~first)):
        return unchanged(log_probs)
    ours = per_row(reference, len(log_probs))
    for half in (first, ~first):
        fit, rest = half & given.full, ~half & given.full
        z, r = _centred(log_probs[fit]), _centred(ours[fit])
        origin, target = z.mean(0), r.mean(0)
        z = z - origin
        ridge = (RIDGE * z.square().mean() * len(z)).clamp(min=1e-12) * torch.eye(k, dtype=z.dtype, device=z.device)
        w = torch.linalg.solve(z.T @ z + ridge, z.T @ (r - target))
        new = (_centred(log_probs[rest]) - origin) @ w + target
        decoded[rest] = new.log_softmax(1).to(log_probs.dtype)
    return Decoding(decoded, "classes mixed by a linear map")


def _centred(log_probs: Tensor) -> Tensor:
    z = log_probs.double()
    return z - z.mean(1, keepdim=True)
