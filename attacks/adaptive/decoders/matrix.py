"""Matrix scaling: a teacher whose classes are mixed by some linear map of the logits."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attacks.adaptive.decoders.decoding import Decoding, halves, rows, unchanged
from teachers.task import UNLABELLED

PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001)  # λ
ROWS = 8192  # to fit on, at most
SURE = 2.0  # standard errors by which a held-out row must lose less than without a matrix
STEPS = 100
Array = NDArray[np.float64]
Classes = NDArray[np.int64]


def matrix(log_probs: Tensor, labels: Tensor) -> Decoding:
    """Return log softmax(W z + b) of the centred log-probabilities z, fitted to the labels.

    This is the matrix scaling of Guo et al., ICML 2017 (arXiv 1706.04599, section 4.2) with a pull to the identity:
    W (K, K) and b (K,) minimise the mean cross entropy + λ (σ² ‖W − I‖² + ‖b‖²) / K, σ² the mean square of z. λ is the
    one of PENALTIES with the smallest held-out cross entropy, fitted on one half of the images and measured on the
    other; if none is surely better than W = I, the answers stay as they are. So do rows that hide a class.
    """
    given = rows(log_probs, labels)
    fit = given.full & (given.labels != UNLABELLED)
    fit &= torch.arange(len(fit), device=fit.device) < _most(fit, len(labels))
    images = given.images[fit].cpu().numpy()
    if log_probs.shape[1] < 2 or len(np.unique(images)) < 4:
        return unchanged(log_probs)
    z, y = _centred(log_probs[fit]), given.labels[fit].cpu().numpy()
    found = _penalty(z, y, halves(given)[fit].cpu().numpy())
    if found is None:
        return unchanged(log_probs)
    w, b = fitted(z, y, found)
    decoded = log_probs.clone()
    new = torch.from_numpy(_centred(log_probs[given.full]) @ w.T + b).log_softmax(1)
    decoded[given.full] = new.to(log_probs)
    return Decoding(decoded, f"matrix scaling with penalty {found:g}")


def fitted(z: Array, y: Classes, penalty: float, start: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
    """Return W (K, K) and b (K,) for rows z (R, K) with labels y (R,)."""
    from scipy.optimize import minimize

    k = z.shape[1]
    eye = np.eye(k, k + 1)
    pull = penalty / k * np.append(np.full(k, (z**2).mean()), 1.0)  # (K + 1,)
    first = eye if start is None else np.column_stack(start)
    inputs = np.column_stack([z, np.ones(len(z))])  # (R, K + 1)
    truth = np.eye(k)[y]

    def loss(flat: Array) -> tuple[float, Array]:
        theta = flat.reshape(k, k + 1)
        log_p = _log_softmax(inputs @ theta.T)
        value = -(truth * log_p).sum() / len(z) + (pull * (theta - eye) ** 2).sum()
        slope = (np.exp(log_p) - truth).T @ inputs / len(z) + 2 * pull * (theta - eye)
        return float(value), slope.ravel()

    found = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "gtol": 1e-7})
    theta = found.x.reshape(k, k + 1)
    return theta[:, :k], theta[:, k]


def _penalty(z: Array, y: Classes, first: NDArray[np.bool_]) -> float | None:
    """Return the penalty with the smallest held-out loss, or None if W = I is as good."""
    plain = _losses(z, y)
    held = {penalty: np.empty(len(z)) for penalty in PENALTIES}
    for half in (first, ~first):
        w, b = np.eye(z.shape[1]), np.zeros(z.shape[1])
        for penalty in PENALTIES:  # from strict to loose: each starts where the one before ended
            w, b = fitted(z[half], y[half], penalty, (w, b))
            held[penalty][~half] = _losses(z[~half] @ w.T + b, y[~half])
    best = min(PENALTIES, key=lambda penalty: float(held[penalty].mean()))
    gain = plain - held[best]
    return best if gain.mean() > SURE * gain.std() / np.sqrt(len(gain)) else None


def _losses(logits: Array, y: Classes) -> Array:
    return np.asarray(-_log_softmax(logits)[np.arange(len(y)), y])


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def _centred(log_probs: Tensor) -> Array:
    z = log_probs.double()
    return np.asarray((z - z.mean(1, keepdim=True)).cpu().numpy())


def _most(fit: Tensor, number: int) -> int:
    """Return how many of the first rows to fit on: whole views, with no more than ROWS labelled rows."""
    views = max(1, len(fit) // number)
    whole = [v for v in range(1, views + 1) if int(fit[: v * number].sum()) <= ROWS]
    return number * max(whole, default=1)
