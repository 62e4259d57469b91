"""Recognise a teacher's output type (logits, probabilities…), the same way for files and for URLs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from teachers.errors import RefusedInput

Rows = NDArray[np.float64]  # (n, K)
Output = Literal["logits", "probabilities", "percentages", "log-probabilities"]

WHOLE: dict[Output, float] = {"probabilities": 1.0, "percentages": 100.0}  # the sum over all classes
ENOUGH = 32  # images whose answers suffice to recognise the type
SUM = 1e-3  # largest deviation from one of a sum of probabilities in single precision
LOOSE = 0.05  # the same for sums from logarithms, in later answers
EXACT = 1e-5  # largest relative deviation of equal sums in single precision
NEAR = 2e-7  # relative rounding error of single precision
STEPS = {  # steps that probabilities may be rounded to, the coarsest first, and how that is written
    0.1: "round:1",
    0.01: "round:2",
    1 / 255: "in steps of 1/255",
    1 / 256: "in steps of 1/256",
    1e-3: "round:3",
    1e-4: "round:4",
    1e-5: "round:5",
}
HALF = {8: 2**-8, 11: 2**-11}  # by significant bits of bfloat16 and half precision: the value of the last bit
DIGITS = (2, 3)  # numbers of significant decimal digits that are recognised


@dataclass(frozen=True)
class Numbers:
    """The output type of a teacher, and the surface that its answers have already passed."""

    output: Output
    shown: str = ""  # as --surface takes it, or in words; empty if nothing is hidden

    @property
    def told(self) -> str:
        """A description of the output type, for the end of a sentence."""
        if not self.shown:
            return self.output
        if self.shown == "label":
            return f"{self.output} of 0 and 1 alone: the top class, as --surface label shows it"
        as_ = f"as --surface {self.shown} shows them" if ":" in self.shown else self.shown
        return f"{self.output} {as_}: they are audited, and their CMI measured, as they come"

    def log_probs(self, values: Tensor, who: str) -> Tensor:
        """Convert rows (n, K) of this output type to log-probabilities: −inf where nothing is shown.

        Raises RefusedInput if the rows are of another type.
        """
        self._hold(values, who)
        if self.output == "logits":
            return F.log_softmax(values.float(), -1)
        if self.output == "log-probabilities":
            return values.clamp(max=0).float()
        p = values / WHOLE[self.output]
        least = torch.finfo(p.dtype).tiny  # so that no gradient is infinite
        logs = p.clamp(min=least).log()
        return torch.where(p > 0, torch.where(logs > 0, 0.0, logs), -torch.inf).float()

    def _hold(self, values: Tensor, who: str) -> None:
        rows = finite(values)
        if not len(rows) or _inside(rows, self.output):
            return
        if self.output == "logits":  # a few logits may look like any type, and logits of similar images like scores
            if len(rows) < ENOUGH or (found := _whole(rows)) is None:
                return
        else:
            found = numbers(rows, who)
        if found.output != self.output:
            raise RefusedInput(
                f"{who} answered {found.output}; its first answers were {self.output}; if the model was replaced, "
                "audit it as another version or with another --cache"
            )


class LogProbabilities(nn.Module):
    """A network that returns the log-probabilities of one that returns probabilities or percentages."""

    def __init__(self, network: nn.Module, numbers: Numbers, who: str) -> None:
        super().__init__()
        self.network, self.numbers, self.who = network, numbers, who

    def forward(self, x: Tensor) -> Tensor:
        return self.numbers.log_probs(self.network(x), self.who)


def numbers(rows: Rows, who: str) -> Numbers:
    """Recognise the output type of finite rows (n, K), all of them together.

    Non-negative rows that sum to one, or to 100, up to the rounding of K classes, or that show the same number of top
    classes only, are probabilities or percentages; rows below 0 whose exponentials sum to one are log-probabilities;
    all others are logits. Raises RefusedInput for other rows in [0, 1], such as independent scores per class, and for
    another common sum, such as 255 or the number of trees in a forest.
    """
    if (found := _whole(rows)) is not None:
        return found
    if (rows >= -NEAR).all() and (rows <= 1 + NEAR).all():
        raise _scores(rows, who)
    if (total := _common(rows)) is not None:
        raise RefusedInput(
            f"{who} answered numbers that sum to {total:g} on every image; expected logits, or probabilities, whose "
            f"sum is 1 or 100: divide them by {total:g}, or export the logits"
        )
    logs = (rows <= NEAR).all() and _sum_to_one(np.exp(rows))
    return Numbers("log-probabilities" if logs else "logits")


def _whole(rows: Rows) -> Numbers | None:
    """Recognise rows that are probabilities or percentages; None if they are neither."""
    if not (rows >= -NEAR).all():
        return None
    for output, whole in WHOLE.items():
        p = rows.clip(0) / whole
        if output == "percentages" and rows.max() <= 1 and not _sum_to_one(p):
            continue  # many small scores
        shown = _shares(p, _relative(rows))
        if shown is not None:
            return Numbers(output, shown)
    return None


def _common(rows: Rows) -> float | None:
    """Return the sum that many non-negative rows, not all equal, share up to rounding, or None."""
    if len(rows) < ENOUGH or not (rows >= -NEAR).all() or (rows == rows[0]).all():
        return None
    totals = rows.sum(1)
    total = float(np.median(totals))
    step = next((s for s in (1.0, 0.1, 0.01) if (np.abs(rows - np.round(rows / s) * s) <= NEAR * rows).all()), 0.0)
    within = max(EXACT, min(step * rows.shape[1] / 2 / total, LOOSE))
    return total if (np.abs(totals / total - 1) <= within).all() else None


def kind(outputs: Tensor) -> str:
    """Name the type of a network's raw outputs (n, K)."""
    try:
        return numbers(finite(outputs), "it").output
    except RefusedInput:
        return "scores in [0, 1] with other sums than one"


def finite(values: Tensor) -> Rows:
    """Return the valid rows of numbers (n, K): those without NaN whose largest value is finite."""
    rows: Rows = values.detach().double().cpu().numpy()
    kept: Rows = rows[~np.isnan(rows).any(1) & np.isfinite(rows.max(1, initial=-np.inf))]
    return kept


def _inside(rows: Rows, output: Output) -> bool:
    """Whether rows are certainly of this output type: a quick check for most answers."""
    if output == "logits":
        return bool((rows < -SUM).any() and (rows > SUM).any())
    if output == "log-probabilities":  # also with few digits
        return bool((rows <= NEAR).all()) and _sum_to_one(np.exp(rows), LOOSE)
    return bool((rows >= -NEAR).all()) and _sum_to_one(rows / WHOLE[output])


def _scores(rows: Rows, who: str) -> RefusedInput:
    if nothing := int((rows.sum(1) == 0).sum()):
        seen = f"nothing but zeros on {nothing} of {len(rows)} images"
        return RefusedInput(f"{who} answered {seen}; expected logits, or probabilities with more decimals")
    low, high = rows.sum(1).min(), rows.sum(1).max()
    return RefusedInput(
        f"{who} answered numbers in [0, 1] whose sums go from {low:.3f} to {high:.3f}; expected logits, or "
        "probabilities of all classes, which sum to one: export the logits, from before the sigmoid, or put a softmax "
        "in its place"
    )


def _shares(p: Rows, share: float) -> str | None:
    """Return the surface that rows of distributions have passed, empty for none; None if they are no distributions.

    `share` is the deviation of sums that the values' significant digits allow.
    """
    total, there = p.sum(1), (p > 0).sum(1)
    (low, high), k = _allowed(p, share), int(there.max(initial=0))
    if (total == 0).any() or (total > 1 + high).any():
        return None
    if ((p == 0) | (np.abs(p - 1) < NEAR)).all() and (there == 1).all():
        return "label"
    written = STEPS.get(_step(p), "")
    if (total >= 1 - low).all():
        sparse = k < p.shape[1] and (there == k).all() and len(p) >= ENOUGH
        return written or (f"sparse:{k}" if sparse and _sum_to_one(p) else "")
    return f"top:{k}" + (f"+{written}" if written.startswith("round") else "") if _cut(p, k, share) else None


def _cut(p: Rows, k: int, share: float) -> bool:
    """Whether rows are the k largest of K probabilities: the missing mass is at most K − k times the smallest shown.

    In rows that show fewer than k, the others were rounded to zero.
    """
    there, half = (p > 0).sum(1), _step(p) / 2
    smallest = np.where(there == k, np.where(p > 0, p, 1).min(1), 0)
    missing = (p.shape[1] - there) * (smallest + half)
    return k < p.shape[1] and bool((1 - p.sum(1) <= missing + k * half + max(SUM, share)).all())


def _allowed(p: Rows, share: float) -> tuple[Rows, Rows]:
    """Return how far sums may be below and above one, (n,) each, given the precision of the values."""
    half = _step(p) / 2
    # A value rounded to zero can only make a sum smaller.
    below, above = (np.maximum(max(SUM, share), half * n) for n in (np.full(len(p), p.shape[1]), (p > 0).sum(1)))
    return below, above


def _step(p: Rows) -> float:
    """Return the coarsest step in STEPS of which all values are multiples, or 0."""
    return next((s for s in STEPS if (np.abs(p - np.round(p / s) * s) <= NEAR * p).all()), 0.0)


def _relative(p: Rows) -> float:
    """Return the relative error of a sum of values with few significant digits or bits; 0 if they have many."""
    parts = p[p > 2**-14]  # smaller ones have fewer digits in half precision, and hardly matter
    mantissa = np.frexp(parts)[0]
    for bits, last in HALF.items():
        if (mantissa * 2**bits % 1 == 0).all():
            return 4 * last
    ten = 10.0 ** np.floor(np.log10(parts))
    for digits in DIGITS:
        written = parts / ten * 10.0 ** (digits - 1)
        if (np.abs(written - np.round(written)) <= NEAR * written).all():
            return float(0.5 * 10.0 ** (1 - digits))
    return 0.0


def _sum_to_one(rows: Rows, within: float = SUM) -> bool:
    return bool((np.abs(rows.sum(1) - 1) < within).all())
