"""Measure how much a model's outputs tell beyond the label: I(X; Ŷ | Y), in nats (CMIM, arXiv 2507.00012)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]

TEMPERATURES = tuple(2.0 ** (i / 2 - 2) for i in range(15))  # 0.25 … 32
LOG_FLOOR = 1e-12
FEWEST_IMAGES = 50

_ROUNDING = 1e-4
_ROWS = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassCMI:
    """Hold the conditional mutual information of a labelled sample, in nats."""

    value: float
    """Plug-in mean of KL(P_x ‖ Q_y) over all images."""
    corrected: float
    """Bias-corrected mean over the images of classes with two or more; nan where there is none."""
    se: float
    """Standard error of `value` over images: to first order an image moves it by KL(P_x ‖ Q_y) − value."""
    per_class: Floats
    """(K,) corrected; nan for a class of fewer than two images."""
    counts: NDArray[np.int64]
    """(K,) images."""

    @property
    def unreliable(self) -> NDArray[np.bool_]:
        """Mark the classes (K,) with too few images for the correction to be trusted."""
        return self.counts < FEWEST_IMAGES


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Hold the CMI of softmax(z / T) over T, in nats, each array (temperatures,)."""

    temperatures: Floats
    cmi: Floats
    plug_in: Floats
    se: Floats
    gamma: Floats
    ncmi: Floats

    @property
    def peak(self) -> float:
        """Give the largest corrected CMI."""
        return float(self.cmi[self._top])

    @property
    def peak_temperature(self) -> float:
        """Give the temperature of the largest corrected CMI."""
        return float(self.temperatures[self._top])

    @property
    def _top(self) -> int:
        return int(np.argmax(self.cmi))


class _Block(NamedTuple):
    """Some whole classes, their images side by side."""

    rows: NDArray[np.intp]  # (n,) into the sample
    classes: NDArray[np.intp]  # (k,)
    starts: NDArray[np.intp]  # (k,) into rows
    counts: NDArray[np.int64]  # (k,)


def at_temperature(log_p: NDArray[np.floating[Any]], T: float) -> Floats:
    """Turn log-probabilities or logits (N, K) into the probabilities softmax(log_p / T), (N, K)."""
    if not 0 < T < math.inf:
        raise ValueError(f"a temperature must be positive and finite, not {T:g}")
    P: Floats = np.divide(log_p, T, dtype=np.float64)
    top = P.max(axis=1, keepdims=True)
    if not np.isfinite(top).all():
        raise ValueError("every image needs a finite log-probability, and none may be nan or +inf")
    P -= top
    np.exp(P, out=P)
    P /= P.sum(axis=1, keepdims=True)
    return P


def cmi(P: NDArray[np.floating[Any]], y: Labels, K: int) -> ClassCMI:
    """Estimate E[KL(P_x ‖ Q_y)] from probabilities P (N, K) and labels y (N,), Q_y the mean of P_x over class y.

    Q_y comes from the same images, which makes the plug-in low by about (1 / 2n) Σ_c s²_c / Q_c in a class of n images,
    s²_c the variance of P_c within it (second-order delta method on the entropy of Q_y); the correction adds that.
    """
    _check(P, y, K)
    counts = np.bincount(y, minlength=K)
    divergence = np.empty(len(y))  # (N,)
    bias = np.full(K, np.nan)
    for block in _blocks(y, counts):
        divergence[block.rows], bias[block.classes] = _divergence(P[block.rows].astype(np.float64), block)
    plug_in = np.bincount(y, weights=divergence, minlength=K) / np.maximum(counts, 1)
    per_class = plug_in + bias
    known = counts >= 2
    images = int(counts[known].sum())
    return ClassCMI(
        value=float(divergence.mean()),
        corrected=float(counts[known] @ per_class[known]) / images if images else math.nan,
        se=float(divergence.std(ddof=1)) / math.sqrt(len(y)) if len(y) > 1 else math.nan,
        per_class=per_class,
        counts=counts,
    )


def separation(P: NDArray[np.floating[Any]], y: Labels, K: int) -> float:
    """Estimate Γ = E[1{Y ≠ V} H(P_X, P_U)] over all ordered pairs of distinct images, H the cross entropy in nats.

    Exact in one pass: the sum over pairs is bilinear, so sums over all images less sums within classes give it.
    Logarithms are floored at log 1e-12 (NCMI: CMIC-DL, arXiv 2309.09123).
    """
    _check(P, y, K)
    counts = np.bincount(y, minlength=K)
    if np.count_nonzero(counts) < 2:
        return 0.0
    p, surprise = np.zeros(K), np.zeros(K)
    within = 0.0
    for block in _blocks(y, counts):
        rows = P[block.rows].astype(np.float64)
        A = np.add.reduceat(rows, block.starts)  # (k, K)
        B = np.add.reduceat(-np.log(np.maximum(rows, LOG_FLOOR)), block.starts)  # (k, K)
        p += A.sum(axis=0)
        surprise += B.sum(axis=0)
        within += float(np.sum(A * B))
    return (float(p @ surprise) - within) / (len(y) * (len(y) - 1))


def curve(log_p: NDArray[np.floating[Any]], y: Labels, K: int, temperatures: Sequence[float] = TEMPERATURES) -> Curve:
    """Follow CMI, Γ and NCMI = CMI / Γ over temperature, every temperature with its own class means.

    log_p: log-probabilities or logits (N, K). NCMI is nan where Γ is zero, as with a single class.
    """
    spread, gamma = [], []
    for T in temperatures:
        P = at_temperature(log_p, T)
        spread.append(cmi(P, y, K))
        gamma.append(separation(P, y, K))
    corrected = np.array([each.corrected for each in spread])
    return Curve(
        temperatures=np.array(temperatures, dtype=np.float64),
        cmi=corrected,
        plug_in=np.array([each.value for each in spread]),
        se=np.array([each.se for each in spread]),
        gamma=np.array(gamma),
        ncmi=np.divide(corrected, gamma, out=np.full(len(gamma), np.nan), where=np.array(gamma) > 0),
    )


def _divergence(P: Floats, block: _Block) -> tuple[Floats, Floats]:
    """Give KL(P_x ‖ Q_y) of each image (n,) and the bias of its mean for each class (k,), nan for one image."""
    from scipy.special import rel_entr

    n = block.counts[:, None]
    # An entry so small that the mean underflows would make the divergence infinite.
    Q = np.maximum(np.add.reduceat(P, block.starts) / n, np.finfo(np.float64).tiny)  # (k, K)
    centre = np.repeat(Q, block.counts, axis=0)  # (n, K)
    divergence: Floats = rel_entr(P, centre).sum(axis=1)
    squares = np.add.reduceat((P - centre) ** 2, block.starts)  # (k, K)
    chi2 = (squares / Q).sum(axis=1)
    df = block.counts - 1
    bias = np.divide(chi2, 2 * block.counts * df, out=np.full(len(df), np.nan), where=df > 0)
    return divergence, bias


def _blocks(y: Labels, counts: NDArray[np.int64]) -> Iterator[_Block]:
    """Split the sample into runs of whole classes of about `_ROWS` images."""
    order = np.argsort(y, kind="stable")
    present = np.flatnonzero(counts)
    ends = np.cumsum(counts[present])
    first = done = 0
    while first < len(present):
        last = max(int(np.searchsorted(ends, done + _ROWS, side="right")), first + 1)
        n = counts[present[first:last]]
        rows = order[done : ends[last - 1]]
        yield _Block(rows, present[first:last], np.cumsum(n) - n, n)
        first, done = last, int(ends[last - 1])


def _check(P: NDArray[np.floating[Any]], y: Labels, K: int) -> None:
    if P.shape != (len(y), K) or len(y) == 0:
        raise ValueError(f"expected probabilities ({len(y)}, {K}) for {len(y)} labels and {K} classes, got {P.shape}")
    if y.min() < 0 or y.max() >= K:
        raise ValueError(f"labels must lie in 0 … {K - 1}, not {y.min()} … {y.max()}")
    if not (P.min() >= 0 and P.max() <= 1 + _ROUNDING):
        raise ValueError(f"probabilities must lie in 0 … 1, not {P.min():g} … {P.max():g}")
