"""Match: a teacher that permutes the non-target classes, by a hidden permutation for each top class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attacks.adaptive.decoders.decoding import Decoding, distinct, per_row, rows, tails, unchanged, unit

LEAST = 8  # images of a class, at least, to match its columns
FEW = 0.1  # share of the classes up to which permuted ones, or one alone, are no finding
CLEAR = 2.0  # how many times better than the given order a new one must agree with the reference
WORTH = 0.1  # ... and how good its agreement (a correlation) must be at least
SURE = 3.0  # ... and by how many standard errors, over held-out images
BETTER = 1.25  # how many times better an order with turned columns must agree than one without
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Order(NamedTuple):
    """Which column of the teacher's holds each class, and whether it is turned over."""

    column: NDArray[np.int64]  # (M,)
    sign: Array  # (M,), 1 or −1

    @property
    def moved(self) -> Mask:
        return np.asarray((self.column != np.arange(len(self.column))) | (self.sign < 0))

    def of(self, columns: Array) -> Array:
        """Return columns (n, M) in this order."""
        return columns[:, self.column] * self.sign


def match(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Decoding:
    """Return answers whose non-target classes are put back into the order that agrees with the reference.

    `reference` holds the log-probabilities (N, K) or (V·N, K) of an own student trained without the teacher. For every
    top class, the teacher's columns are assigned to classes by linear assignment of the log-likelihood that two columns
    belong together: over the images of the class, the teacher's column varies as the reference's does (the strong
    part), and their means are alike. Columns may be turned over, too, where that agrees much better. An order is taken
    if it was fitted on one half of the images and agrees with the other half clearly better than the given order does;
    of its cycles, only those that agree better.
    """
    given = rows(log_probs, labels)
    k = log_probs.shape[1]
    use = given.full & (given.classes == given.tops)
    if k < 3 or not use.any():
        return unchanged(log_probs)
    theirs, ours = tails(log_probs, given.tops)[0], tails(per_row(reference, len(log_probs)), given.tops)[0]
    decoded, found, tops = log_probs.clone(), 0, distinct(given.tops[use])
    for top in tops.tolist():
        fit = use & (given.tops == top)
        columns = [j for j in range(k) if j != top]
        pair = [unit(x[fit][:, columns]).cpu().numpy() for x in (theirs, ours)]
        order = _order(pair[0], pair[1], given.images[fit].cpu().numpy())
        if order is None:
            continue
        found += 1
        mine = given.full & (given.tops == top)
        decoded[mine] = _put_back(log_probs[mine], theirs[mine], columns, order)
    if found <= max(1, FEW * len(tops)):
        return unchanged(log_probs)
    return Decoding(decoded, f"non-target classes permuted for {found} of {len(tops)} classes")


def _put_back(log_probs: Tensor, tail: Tensor, columns: list[int], order: Order) -> Tensor:
    """Return rows (n, K) of one top class in a new order; a turned column is reflected at the mean of its row."""
    old, z = log_probs.double()[:, columns], tail[:, columns]
    new = (old - z)[:, order.column] + z[:, order.column] * torch.from_numpy(order.sign).to(z)
    rows = log_probs.double().clone()
    rows[:, columns] = new
    return rows.log_softmax(1).to(log_probs.dtype)


def _order(theirs: Array, ours: Array, images: NDArray[np.int64]) -> Order | None:
    """Return the order of one class's columns, or None if the given one may be right; rows are unit vectors (n, M)."""
    numbers = np.unique(images)
    if len(numbers) < LEAST:
        return None
    first = np.isin(images, numbers[::2])
    agreement = {False: 0.0, True: 0.0}
    for signed in agreement:
        orders = [_likeliest(theirs[half], ours[half], images[half], signed) for half in (first, ~first)]
        agreement[signed] = _agreement(orders, [~first, first], theirs, ours, images)
    if not any(agreement.values()):
        return None
    signed = agreement[True] > BETTER * agreement[False]
    return _sure_cycles(_likeliest(theirs, ours, images, signed), theirs, ours)


def _agreement(orders: list[Order], held: list[Mask], theirs: Array, ours: Array, images: NDArray[np.int64]) -> float:
    """Return the held-out cosine of the columns that the orders move; 0 unless clearly above the given order's."""
    new, old, norm = np.zeros((3, len(images)))
    for order, rest in zip(orders, held, strict=True):
        moved = order.moved
        a, b, given = (x[rest][:, moved] for x in (order.of(theirs), ours, theirs))
        new[rest], old[rest] = (a * b).sum(1), (given * b).sum(1)
        norm[rest] = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    where = np.unique(images, return_inverse=True)[1]
    gains = np.bincount(where, new - old) / np.bincount(where)  # (images,)
    cosines = np.array([new.mean(), old.mean()]) / max(norm.mean(), 1e-12)
    sure = gains.mean() > SURE * gains.std(ddof=1) / np.sqrt(len(gains))
    return float(cosines[0]) if sure and cosines[0] > max(WORTH, CLEAR * cosines[1]) else 0.0


def _likeliest(theirs: Array, ours: Array, images: NDArray[np.int64], signed: bool) -> Order:
    """Return the likeliest order: the assignment with the largest sum of log-likelihood ratios of pairs of columns.

    For two standardised columns that have correlation ρ instead of 0, that is ρ/(1 − ρ²) · Σ ab, up to what no order
    changes. ρ is the mean over the pairs assigned so far, of deviations over images and of means over columns.
    """
    from scipy.optimize import linear_sum_assignment

    within = _standard(theirs).T @ _standard(ours) / len(theirs)  # (M, M), correlations over the images
    means = _standard(theirs.mean(0))[:, None] * _standard(ours.mean(0))  # (M, M)
    number, rho = len(np.unique(images)), np.array([0.5, 0.5])
    order = Order(np.arange(len(within)), np.ones(len(within)))
    for _ in range(4):
        weight = rho / (1 - rho**2)
        score = number * weight[0] * within + weight[1] * means
        column = linear_sum_assignment((abs(score) if signed else score).T, maximize=True)[1]
        at = column, np.arange(len(column))
        order = Order(column, np.where(score[at] < 0, -1.0, 1.0) if signed else np.ones(len(column)))
        rho = np.clip([(within[at] * order.sign).mean(), (means[at] * order.sign).mean()], 0.05, 0.95)
    return order


def _standard(x: Array) -> Array:
    """Return x with mean 0 and variance 1 along its first axis; what does not vary is 0."""
    centred = x - x.mean(0)
    sd = centred.std(0)
    return np.asarray(np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 1e-12))


def _sure_cycles(order: Order, theirs: Array, ours: Array) -> Order | None:
    """Return the order with only those cycles that agree clearly better than the given order does."""
    new, old = (order.of(theirs) * ours).sum(0), (theirs * ours).sum(0)  # (M,)
    column, sign, done = order.column.copy(), order.sign.copy(), np.zeros(len(new), bool)
    for start in range(len(column)):
        cycle = []
        while not done[start]:
            done[start] = True
            cycle.append(start)
            start = order.column[start]
        if cycle and new[cycle].sum() <= CLEAR * old[cycle].sum():
            column[cycle], sign[cycle] = cycle, 1.0
    kept = Order(column, sign)
    return kept if kept.moved.any() else None
