"""Inversion: undo what the API does to its answers, then distil.

The attacker knows the surface but not the teacher (Kerckhoffs's principle). Hidden entries are estimated from the
answers to other images of the same class, by expectation maximisation (Dempster, Laird & Rubin 1977).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.lazy import LazyAnswers, Read
from attacks.logits.soft_kd import SoftKD
from teachers.surface import GAMMA
from teachers.task import UNLABELLED
from teachers.training import Student

ROUNDS = 10  # of expectation maximisation
SMALLEST = float(np.log(1e-7))  # logit below which the reverse sigmoid's values cannot be distinguished
TABLE = 8_000  # points of the reverse sigmoid's table
TRIED, HALVINGS = 80, 16  # coarse and fine steps of the search for its normaliser
CHUNK = 2048  # answers searched, or added to their classes' means, at once
FEW = 2**26  # numbers: so many are restored at once, and more whenever they are read
HIDING = ("top", "round")

Tail = Literal["class", "even", "hidden"]


@dataclass(frozen=True, kw_only=True)
class Inversion(Attack):
    """(1 − α) CE + α T² KL(p̂_t^T ‖ p_s^T), p̂_t the teacher's answer, reconstructed from the one that the API shows.

    A temperature is undone by a power; the reverse sigmoid is inverted with the only normaliser under which the
    probabilities sum to one; hidden entries share the missing mass in proportion to the class's mean answer, up to the
    largest value that could be hidden.
    """

    name = "inversion"
    title = "Inversion of the answers' post-processing"
    paper = "own composition; fill-in after Dempster, Laird & Rubin 1977; defence of Lee et al. 2019 (arXiv 1806.00054)"
    needs = "probs"
    holds = "original"
    views = "crop"

    temperature: float = 4.0
    weight: float = 0.9  # α
    tail: Tail = "class"  # hidden entries: in proportion to the class's mean, in equal shares, or left hidden

    @classmethod
    def grid(cls) -> tuple[Inversion, ...]:
        return cls(), cls(temperature=2.0), cls(temperature=1.0), cls(tail="hidden"), cls(weight=0.1), cls(weight=0.0)

    def run(self, lab: Lab) -> Student:
        paid = lab.paid("crop")
        told = lab.told(paid)  # the attacker's own answers have passed through no API
        labels = torch.from_numpy(lab.pool.every_label[paid.images]).repeat(paid.views)
        labels = torch.where(labels == UNLABELLED, told.labels, labels)
        restored = LazyAnswers(invert(told.values, lab.oracle.surface.steps, labels, self.tail), len(told))
        answers = paid.completed(restored)
        return lab.fit(lab.stream("crop", answers), SoftKD(temperature=self.temperature, weight=self.weight).loss)


def invert(log_probs: Tensor, steps: Sequence[tuple[str, float]], labels: Tensor, tail: Tail = "class") -> Read:
    """Return what gives rows of log-probabilities (N, K) as they were before an API's transformations.

    `noise`, `sparse` and `mad` are not undone: the answers do not reveal how large their changes are.
    """
    cut, (count, k) = any(name == "top" for name, _ in steps), log_probs.shape
    read: Read = log_probs.__getitem__
    for name, value in reversed(steps):
        if name in HIDING and tail != "hidden" and not _is_finite(read, count):
            unit = 0.0 if name == "top" else 10.0**-value
            undone = fill(read, labels, k, unit, cut=cut, prior=tail == "class")
        elif name == "temperature":
            undone = partial(_sharpened, read, value)
        elif name == "reverse-sigmoid" and value > 0:
            undone = partial(_unreversed, read, value)
        else:
            continue
        read = undone if count * k > FEW else undone(torch.arange(count)).__getitem__
    return read


def _is_finite(read: Read, count: int) -> bool:
    return all(bool(torch.isfinite(read(part)).all()) for part in torch.split(torch.arange(count), CHUNK))


def _sharpened(read: Read, temperature: float, index: Tensor) -> Tensor:
    return F.log_softmax(read(index) * temperature, -1)


def _unreversed(read: Read, beta: float, index: Tensor) -> Tensor:
    rows = read(index).clone()
    told = torch.isfinite(rows).any(-1)  # rounding may have hidden every entry
    rows[told] = unreverse(rows[told], beta)
    return rows


def fill(read: Read, labels: Tensor, classes: int, unit: float, *, cut: bool, prior: bool) -> Read:
    """Distribute the missing mass over hidden entries; `unit` is the step of rounding, or zero without it.

    `read` gives rows (B, K) of as many as there are labels (N,); so does what is returned. A hidden entry is at most
    half a unit or, if all but the top ones are cut, at most the smallest entry shown.
    """

    def filled(index: Tensor, shares: Tensor) -> Tensor:
        p = read(index).double().exp()
        hidden = p == 0
        smallest = torch.where(hidden, 1.0, p).amin(-1, keepdim=True)
        most = smallest.clamp(min=unit / 2) if cut else torch.full_like(smallest, unit / 2)
        # Rounding up may leave no missing mass: then assume half of what a single entry can hide.
        missing = (1 - p.sum(-1, keepdim=True)).clamp(min=max(unit / 4, 1e-7))
        tail = shares[labels[index]] * hidden
        tail = torch.minimum(missing * tail / tail.sum(-1, keepdim=True).clamp(min=1e-30), most)
        full = p + tail
        return full / full.sum(-1, keepdim=True)

    shares = torch.full((classes, classes), 1 / classes, dtype=torch.float64)
    counts = torch.bincount(labels, minlength=classes)[:, None]
    for _ in range(ROUNDS - 1 if prior else 0):
        sums = torch.zeros_like(shares)
        for part in torch.split(torch.arange(len(labels)), CHUNK):
            sums.index_add_(0, labels[part], filled(part, shares))
        shares = (sums + 1 / classes) / (counts + 1)  # plus one uniform answer: no class has zero probability
    return lambda index: filled(index, shares).log().float()


def unreverse(shown: Tensor, beta: float, gamma: float = GAMMA) -> Tensor:
    """Return log p (N, K) from q = r(p) / Σ r(p), r(p) = p − β (σ(γ logit p) − 1/2).

    r decreases, increases and decreases again. The top class, whose probability parametrises the unknown Σ r(p), lies
    beyond the first decrease; any other class lies in it, unless its value is too large for that.
    """
    table = _Table(beta, gamma)
    return torch.cat([table.restore(part) for part in torch.split(shown.double().exp(), CHUNK)]).log().float()


class _Table:
    """The inverse of the reverse sigmoid for all classes but the top one, tabulated in equal steps of its value."""

    def __init__(self, beta: float, gamma: float) -> None:
        self._beta, self._gamma = beta, gamma
        logit = torch.linspace(SMALLEST, 0, TABLE, dtype=torch.float64)
        p, r = logit.sigmoid(), self._poison(logit)
        turn = int(r.argmin())
        value = torch.linspace(float(r[turn]), max(0.5, float(r[0])), TABLE, dtype=torch.float64)
        falls = np.interp(value, r[: turn + 1].flip(0), p[: turn + 1].flip(0))
        rises = np.interp(value, r[turn:], p[turn:])
        self._start, self._step = float(value[0]), float(value[1] - value[0])
        self._p = torch.from_numpy(np.where(value <= r[0], falls, rises))
        self._least = float(logit[turn])

    def restore(self, q: Tensor) -> Tensor:
        """Return p (N, K): the normaliser under which it sums to one is bracketed coarsely, then bisected."""
        tried = torch.linspace(self._least, -SMALLEST, TRIED, dtype=q.dtype)  # logits of the top class
        errors = torch.stack([self._excess(q, t.expand(len(q))) for t in tried], -1)  # (N, TRIED)
        best = errors.abs().argmin(-1)
        before, after = (best - 1).clamp(min=0), (best + 1).clamp(max=TRIED - 1)
        # The root lies where the sign changes; if it changes on neither side, the closest point is used.
        crossed = errors.gather(-1, before[:, None]).sign() != errors.gather(-1, best[:, None]).sign()
        low = tried[torch.where(crossed[:, 0], before, best)]
        high = tried[torch.where(crossed[:, 0], best, after)]
        sign = self._excess(q, low).sign()
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            same = self._excess(q, middle).sign() == sign
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        p = self._at(q, (low + high) / 2)
        return p / p.sum(-1, keepdim=True)

    def _poison(self, logit: Tensor) -> Tensor:
        return logit.sigmoid() - self._beta * ((self._gamma * logit).sigmoid() - 0.5)

    def _excess(self, q: Tensor, logit: Tensor) -> Tensor:
        return self._at(q, logit).sum(-1) - 1

    def _at(self, q: Tensor, logit: Tensor) -> Tensor:
        """Return p (N, K) if the top class has this logit, (N,)."""
        top, where = q.max(-1, keepdim=True)
        values = q * (self._poison(logit)[:, None] / top)
        place = ((values - self._start) / self._step).clamp(0, TABLE - 1.001)
        i = place.long()
        p = torch.lerp(self._p[i], self._p[i + 1], place - i)
        return p.scatter(-1, where, logit.sigmoid()[:, None])
