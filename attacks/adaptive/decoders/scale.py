"""Scale: a teacher that answers at a temperature of its own choice, one for all classes or one a class.

z are log-probabilities; c = argmax Σ log softmax(c z)[y] over the labelled rows, concave in c: the inverse of the
temperature of Guo et al., ICML 2017 (arXiv 1706.04599, section 4.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from attacks.adaptive.decoders.decoding import Decoding, Rows, distinct, rows, unchanged
from teachers.task import UNLABELLED

MOST = 32.0  # c lies in [1/MOST, MOST]
CONFIDENT = 0.95  # mean top probability above which nothing is sharpened: an overfitted teacher has no finite c
SLIGHT = 1.1  # a factor between 1/SLIGHT and SLIGHT is no finding
PRIOR = 5.0  # images of the weight that the scale of all classes has in the scale of one


def scale(log_probs: Tensor, labels: Tensor) -> Decoding:
    """Return log softmax(c z) with one c for all rows, from the labels (N,) or (V·N,)."""
    c = likeliest(log_probs, labels)
    if 1 / SLIGHT < c < SLIGHT:
        return unchanged(log_probs)
    return Decoding(scaled(log_probs, c), f"scale {c:.2g}")


def class_scale(log_probs: Tensor, labels: Tensor) -> Decoding:
    """Return log softmax(c_y z) with one c a class, y the label of a row or else the teacher's top class.

    log c_y is the mean of the class's own and that of all classes, weighted by the labelled images of the class and
    PRIOR.
    """
    given = rows(log_probs, labels)
    common, k = likeliest(log_probs, labels), log_probs.shape[1]
    logs = torch.full((k,), common).double().log()
    for y in distinct(given.labels[given.labels != UNLABELLED]).tolist():
        own = given.labels == y
        images = len(distinct(given.images[own]))
        weight = images / (images + PRIOR)
        logs[y] = weight * math.log(likeliest(log_probs[own], given.labels[own])) + (1 - weight) * logs[y]
    if logs.abs().max() < math.log(SLIGHT):
        return unchanged(log_probs)
    c = logs.exp().to(log_probs.device)
    told = f"scale of each class, {float(c.min()):.2g} to {float(c.max()):.2g}"
    return Decoding(scaled(log_probs, c[given.classes][:, None]), told)


def scaled(log_probs: Tensor, c: Tensor | float) -> Tensor:
    """Return log softmax(c z), (R, K); c is positive, one number or a column (R, 1)."""
    return (c * log_probs.double()).log_softmax(1).to(log_probs.dtype)


def likeliest(log_probs: Tensor, labels: Tensor) -> float:
    """Return the likeliest c, held back where it would make the mean top probability larger than CONFIDENT.

    1 if no answer can be scaled: no row has a label whose class is shown beside another one.
    """
    fit = _fitting(rows(log_probs, labels))
    if not len(fit.log_probs):
        return 1.0
    best = _likeliest(fit)
    if best <= 1 or _confidence(fit, best) <= CONFIDENT:
        return best
    return _root(lambda c: _confidence(fit, c) - CONFIDENT, 1.0, best)


def _fitting(given: Rows) -> Rows:
    """Return the labelled rows whose label is shown beside another class."""
    known = given.labels != UNLABELLED
    shown = given.log_probs.gather(1, given.labels.clamp(min=0)[:, None])[:, 0].isfinite()
    use = known & shown & (given.log_probs.isfinite().sum(1) > 1)
    return Rows(*(column[use] for column in given))


def _likeliest(fit: Rows) -> float:
    from scipy.optimize import minimize_scalar

    z = fit.log_probs.double()

    def loss(log_c: float) -> float:
        return -float((math.exp(log_c) * z).log_softmax(1).gather(1, fit.labels[:, None]).mean())

    limit = math.log(MOST)
    found = minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-4})
    return math.exp(found.x)


def _confidence(fit: Rows, c: float) -> float:
    return float((c * fit.log_probs.double()).softmax(1).amax(1).mean())


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Return where a rising function is zero; `low` if it is above zero there already."""
    from scipy.optimize import brentq

    return low if rising(low) >= 0 else float(brentq(rising, low, high))
