"""Conditional mutual information I(X; Ŷ | Y) of a model's images and outputs, in nats (CMIM, arXiv 2507.00012)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Answers = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]

TEMPERATURES = tuple(2.0 ** (i / 2 - 2) for i in range(15))  # 0.25 … 32
LOG_FLOOR = 1e-12
FEWEST_IMAGES = 50

_SURPRISE = -math.log(LOG_FLOOR)
_NEVER = -1e30  # replaces −inf, whose product with a probability of zero would be nan
_OCTAVE = 2**30  # steps per factor of two: inverse temperatures are compared to one part in 10⁹
_SQUARINGS = 6  # at most in a row, because each one doubles the relative error
_ENTRIES = 2_000_000  # images × classes × temperatures held at once: few enough for the processor's cache


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """CMI of softmax(z / T) at every temperature T, in nats; arrays (T,), per class (T, K)."""

    temperatures: Floats
    cmi: Floats
    """Bias-corrected mean over the images of classes that have two or more images; nan where no class has."""
    plug_in: Floats
    """Plug-in mean of KL(P_x ‖ Q_y) over all images."""
    se: Floats
    """Standard error of `plug_in` over images; to first order, one image adds KL(P_x ‖ Q_y) − plug_in."""
    per_class: Floats
    """Bias-corrected CMI of each class; nan for a class with fewer than two images."""
    per_class_se: Floats
    gamma: Floats
    """Γ = E[1{Y ≠ V} H(P_X, P_U)] over all ordered pairs of distinct images, H the cross entropy."""
    ncmi: Floats
    """CMI / Γ; nan where Γ is zero, as with a single class."""
    counts: NDArray[np.int64]
    """(K,) number of images of each class."""

    @property
    def peak(self) -> float:
        """Give the largest corrected CMI."""
        return float(self.cmi[self._top])

    @property
    def peak_temperature(self) -> float:
        """Give the temperature of the largest corrected CMI."""
        return float(self.temperatures[self._top])

    @property
    def unreliable(self) -> NDArray[np.bool_]:
        """Mark the classes (K,) that have too few images for a reliable correction."""
        return self.counts < FEWEST_IMAGES

    @property
    def _top(self) -> int:
        return int(np.argmax(self.cmi))


def curve(log_p: Answers, y: Labels, K: int, temperatures: Sequence[float] = TEMPERATURES) -> Curve:
    """Compute CMI, Γ and NCMI = CMI / Γ at every temperature; each temperature has its own class means Q_y.

    log_p: log-probabilities or logits (N, K), in memory or mapped from a file; at most one class is read at a time.
    The computation uses double precision for double input and single precision otherwise (error about 10⁻⁶ nats).

    Q_y is estimated from the same images. In a class of n images this makes the plug-in estimate too low by about
    (1 / 2n) Σ_c s²_c / Q_c, where s²_c is the variance of P_c within the class (second-order delta method on the
    entropy of Q_y); the correction adds this amount. Γ is exact in one pass: a sum over pairs is bilinear, so it equals
    the sum over all images minus the sums within classes. Its logarithms are floored at log 1e-12 (NCMI: CMIC-DL,
    arXiv 2309.09123).
    """
    _check(log_p, y, K)
    hot = np.argsort(temperatures)[::-1]
    ladder = _ladder([temperatures[t] for t in hot])
    N, T, counts = len(y), len(temperatures), np.bincount(y, minlength=K)
    order, ends = np.argsort(y, kind="stable"), np.cumsum(counts)
    plug_in, bias, scatter, unknown = np.zeros((T, K)), np.full((T, K), np.nan), np.zeros((T, K)), np.full(T, np.nan)
    mass, surprise, within = np.zeros((T, K)), np.zeros((T, K)), np.zeros(T)
    scratch = np.empty(max(_ENTRIES, K * len(ladder.beta)), np.result_type(log_p.dtype, np.float32))
    for label in np.flatnonzero(counts):
        found = _of_class(log_p, order[ends[label] - counts[label] : ends[label]], ladder, scratch)
        plug_in[hot, label], bias[hot, label], scatter[hot, label] = found.plug_in, found.bias, found.scatter
        mass[hot] += found.mass
        surprise[hot] += found.surprise
        within[hot] += np.vecdot(found.mass, found.surprise)
    per_class, known = plug_in + bias, counts >= 2
    value = plug_in @ counts / N
    corrected = per_class[:, known] @ counts[known] / counts[known].sum() if known.any() else unknown
    deviations = scatter.sum(1) + (plug_in - value[:, None]) ** 2 @ counts  # (T,)
    several = np.count_nonzero(counts) > 1
    gamma = (np.vecdot(mass, surprise) - within) / (N * (N - 1)) if several else np.zeros(T)
    return Curve(
        temperatures=np.array(temperatures, dtype=np.float64),
        cmi=corrected,
        plug_in=value,
        se=np.sqrt(deviations / (N * (N - 1))) if N > 1 else unknown,
        per_class=per_class,
        per_class_se=np.where(known, np.sqrt(scatter / np.maximum(counts * (counts - 1), 1)), np.nan),
        gamma=gamma,
        ncmi=np.divide(corrected, gamma, out=unknown.copy(), where=gamma > 0),
        counts=counts,
    )


class _Step(NamedTuple):
    """Neighbouring levels that are computed together."""

    start: int
    stop: int
    half: int | None  # first of the levels that are squared to get these; None: computed as exponentials


class _Ladder(NamedTuple):
    """Inverse temperatures β: the requested ones in ascending order, then doubles of them that were not requested.

    e^2βz is the square of e^βz, which costs a tenth of an exponential.
    """

    beta: Floats  # (levels,)
    double: slice | list[int]  # (T,) for each inverse temperature, the level of its double
    steps: list[_Step]


def _ladder(temperatures: Sequence[float]) -> _Ladder:
    """Plan how to compute the powers e^βz; the temperatures are in descending order."""
    for T in temperatures:
        if not 1e-6 <= T <= 1e6:
            raise ValueError(f"a temperature must lie in 1e-6 … 1e6, not {T:g}")
    keys = [round(-math.log2(T) * _OCTAVE) for T in temperatures]
    beyond = [key for key in dict.fromkeys(key + _OCTAVE for key in keys) if key not in keys]
    place = {key: level for level, key in enumerate(keys + beyond)}
    steps: list[_Step] = []
    squarings: list[int] = []  # number of squarings in a row behind each level
    for level, key in enumerate(keys + beyond):
        half = place.get(key - _OCTAVE)
        if half is not None and level < len(keys) and (half > level or squarings[half] == _SQUARINGS):
            half = None
        squarings.append(0 if half is None else squarings[half] + 1)
        last = steps[-1] if steps else _Step(0, 0, None)
        follows = half is None if last.half is None else half == last.half + level - last.start and half < last.start
        if follows:
            steps[-1:] = [last._replace(stop=level + 1)]
        else:
            steps.append(_Step(level, level + 1, half))
    beta = np.array([*(1 / T for T in temperatures), *(2.0 ** (key / _OCTAVE) for key in beyond)])
    double = [place[key + _OCTAVE] for key in keys]
    run = range(double[0], double[0] + len(keys))
    return _Ladder(beta, slice(run.start, run.stop) if double == list(run) else double, steps)


class _Class(NamedTuple):
    """Contribution of one class to the curve."""

    plug_in: Floats  # (T,) mean of KL(P_x ‖ Q)
    bias: Floats  # (T,) bias of that mean; nan for a single image
    scatter: Floats  # (T,) sum of squared deviations from that mean
    mass: Floats  # (T, K) sum of P_x
    surprise: Floats  # (T, K) sum of −log P_x, floored


def _of_class(log_p: Answers, rows: NDArray[np.intp], ladder: _Ladder, scratch: Answers) -> _Class:
    """Measure the images `rows` of one class, in two passes; in parts where the scratch memory cannot hold them all."""
    n, most = len(rows), len(scratch) // (log_p.shape[1] * len(ladder.beta))
    parts = np.array_split(rows, -(-n // most))
    held = [_Powers(np.asarray(log_p[rows]), ladder, scratch)] if len(parts) == 1 else None

    def sweep() -> Iterable[_Powers]:
        return held or (_Powers(np.asarray(log_p[part]), ladder, scratch) for part in parts)

    mass = np.sum([powers.mass() for powers in sweep()], 0)  # (T, K)
    # A mean that underflows to zero would make the divergence infinite.
    Q = np.maximum(mass / n, np.finfo(scratch.dtype).tiny)
    squares, surprise = np.zeros_like(Q), np.zeros_like(Q)
    guess, beyond, scatter = np.zeros(len(Q)), np.zeros(len(Q)), np.zeros(len(Q))  # (T,)
    for number, powers in enumerate(sweep()):
        divergence = powers.divergence(Q)  # (T, images of the part)
        if number == 0:
            guess = divergence.mean(1)  # shift, so that sums of squares lose no digits
        divergence -= guess[:, None]
        beyond += divergence.sum(1)
        scatter += np.vecdot(divergence, divergence)
        squares += powers.squares()
        surprise += powers.surprise()
    variance = np.maximum(squares - n * Q * Q, 0)  # (T, K), n times s²
    return _Class(
        plug_in=np.maximum(guess + beyond / n, 0),
        bias=(variance / Q).sum(1) / (2 * n * (n - 1)) if n > 1 else np.full(len(Q), np.nan),
        scatter=np.maximum(scatter - beyond**2 / n, 0),
        mass=mass,
        surprise=surprise,
    )


class _Powers:
    """e^βz of some images of one class at every level of a ladder; z: their logits minus the largest one."""

    def __init__(self, log_p: Answers, ladder: _Ladder, scratch: Answers) -> None:
        top = log_p.max(1, keepdims=True)
        if not np.isfinite(top).all():
            raise ValueError("every image needs a finite log-probability, and none may be nan or +inf")
        self.z = z = np.subtract(log_p, top, dtype=scratch.dtype)  # (n, K)
        self.lowest = z.min()
        if np.isinf(self.lowest):
            np.maximum(z, _NEVER, out=z)
        beta = ladder.beta.astype(z.dtype)[:, None, None]
        levels = scratch[: len(beta) * z.size].reshape(-1, *z.shape)  # (levels, n, K)
        for start, stop, half in ladder.steps:
            made = levels[start:stop]
            if half is None:
                np.exp(np.multiply(self.z, beta[start:stop], out=made), out=made)
            else:
                np.square(levels[half : half + stop - start], out=made)
        self.twice = levels[ladder.double]
        self.u, self.beta = levels[: len(self.twice)], beta[: len(self.twice), 0]
        Z = (self.u.reshape(-1, z.shape[1]) @ np.ones(z.shape[1], z.dtype)).reshape(len(self.u), -1)  # (T, n)
        self.log_Z, self.weight = np.log(Z), 1 / Z

    def mass(self) -> Floats:
        """Sum P_x over the images, (T, K)."""
        mass: Floats = (self.weight[:, None] @ self.u)[:, 0].astype(np.float64)
        return mass

    def squares(self) -> Floats:
        """Sum P_x² over the images, (T, K)."""
        squares: Floats = (np.square(self.weight)[:, None] @ self.twice)[:, 0].astype(np.float64)
        return squares

    def divergence(self, Q: Floats) -> Floats:
        """Give KL(P_x ‖ Q) of every image, Σ_c P_c (βz_c − log Q_c) − log Z, (T, n)."""
        energy = (self.u.transpose(1, 0, 2) @ self.z[:, :, None])[:, :, 0].T  # (T, n), before normalisation
        cross = (self.u @ np.log(Q).astype(self.u.dtype)[:, :, None])[:, :, 0]
        divergence: Floats = ((self.beta * energy - cross) * self.weight - self.log_Z).astype(np.float64)
        return divergence

    def surprise(self) -> Floats:
        """Sum −log P_x = log Z − βz over the images, floored, (T, K)."""
        ones, most = np.ones(len(self.z), self.z.dtype), self.log_Z.max(1) - self.beta[:, 0] * self.lowest
        energy = np.tile(ones @ self.z, (len(most), 1)).astype(np.float64)
        for t in np.flatnonzero(most > _SURPRISE):
            energy[t] = ones @ np.maximum(self.z, ((self.log_Z[t] - _SURPRISE) / self.beta[t])[:, None])
        surprise: Floats = self.log_Z.sum(1, dtype=np.float64)[:, None] - self.beta * energy
        return surprise


def _check(log_p: Answers, y: Labels, K: int) -> None:
    if log_p.shape != (len(y), K) or len(y) == 0:
        raise ValueError(f"expected answers ({len(y)}, {K}) for {len(y)} labels and {K} classes, got {log_p.shape}")
    if y.min() < 0 or y.max() >= K:
        raise ValueError(f"labels must lie in 0 … {K - 1}, not {y.min()} … {y.max()}")
