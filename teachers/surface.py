"""Surfaces: the transformations that an API applies to a teacher's answers before it returns them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from teachers import kinds
from teachers.kinds import EIGHT
from teachers.kinds import Kind as Kind

GAMMA = 0.2  # slope of the reverse sigmoid
NOTHING = 1e-5  # missing mass that may come from float32 rounding


@dataclass(frozen=True)
class Answers:
    """The answers for N images: log-probabilities (N, K) float32, or labels (N,) int64.

    Log-probabilities are those shown: −inf for an entry that was cut off or rounded to zero, so the probabilities of a
    row need not sum to one. `gradients` (N, C, H, W), if the API returns explanations, are those of the top class's
    log-probability with respect to the pixels.
    """

    kind: Kind
    values: Tensor
    gradients: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def labels(self) -> Tensor:
        """The top class of each answer, (N,)."""
        return self.values if self.kind == "label" else self.values.argmax(-1)

    def log_probs(self, temperature: float = 1.0) -> Tensor:
        """Return log P^(1/T), renormalised, (N, K): −inf for entries not shown, uniform for a row without any.

        Raises ValueError for labels, which have no probabilities.
        """
        shown = self._shown()
        return F.log_softmax(torch.where(shown.any(-1, keepdim=True), self.values, 0.0) / temperature, -1)

    def logits(self) -> Tensor:
        """Return the logits up to a constant, which answers do not reveal: finite, centred over classes, (N, K).

        An entry that was not shown gets an equal share of the missing mass, at most half of the smallest entry shown.
        """
        shown = self._shown()
        missing = 1 - self.values.exp().sum(-1, keepdim=True)
        smallest = torch.where(shown, self.values, torch.inf).amin(-1, keepdim=True).clamp(max=0)
        even = missing / (~shown).sum(-1, keepdim=True).clamp(1)
        share = torch.where(missing > NOTHING, even.clamp(min=1e-30).log(), torch.inf)
        filled = torch.where(shown, self.values, torch.minimum(smallest - float(np.log(2)), share))
        return filled - filled.mean(-1, keepdim=True)

    def probs(self, classes: int) -> Tensor:
        """Return the shown probabilities (N, K); a label becomes a one-hot row."""
        return F.one_hot(self.values, classes).float() if self.kind == "label" else self.values.exp()

    def to(self, device: torch.device | str) -> Answers:
        """Return the same answers on a device; the CPU does not wait until they are there."""
        ahead = self.values.device.type == "cpu"  # what comes from a device is there when it is read
        gradients = None if self.gradients is None else self.gradients.to(device, non_blocking=ahead)
        return replace(self, values=self.values.to(device, non_blocking=ahead), gradients=gradients)

    def __getitem__(self, index: Tensor | slice) -> Answers:
        return Answers(self.kind, self.values[index], None if self.gradients is None else self.gradients[index])

    def _shown(self) -> Tensor:
        if self.kind == "label":
            raise ValueError("a label answer has no probabilities")
        return torch.isfinite(self.values)


def concatenate(parts: list[Answers]) -> Answers:
    """Join answers of one kind; one part alone is returned as it is."""
    if len(parts) == 1:
        return parts[0]
    gradients = [part.gradients for part in parts if part.gradients is not None]
    joined = torch.cat(gradients) if gradients else None
    return Answers(parts[0].kind, torch.cat([part.values for part in parts]), joined)


def top(log_probs: Tensor, k: float) -> Tensor:
    """Show the k largest probabilities unchanged, and hide the others."""
    kept = log_probs.topk(min(int(k), log_probs.shape[1]), -1).indices
    return torch.full_like(log_probs, -torch.inf).scatter(-1, kept, log_probs.gather(-1, kept))


def sparse(log_probs: Tensor, k: float) -> Tensor:
    """Show the k largest probabilities, renormalised, and hide the others (stingy teacher, Ma et al. 2022)."""
    return F.log_softmax(top(log_probs, k), -1)


def rounded(log_probs: Tensor, digits: float) -> Tensor:
    """Round probabilities to `digits` decimals; an entry that rounds to zero is not shown."""
    return (log_probs.double().exp() * 10**digits).round().div(10**digits).log().to(log_probs.dtype)


def tempered(log_probs: Tensor, temperature: float) -> Tensor:
    """Show P^(1/T), renormalised."""
    return F.log_softmax(log_probs / temperature, -1)


def noisy(log_probs: Tensor, sd: float) -> Tensor:
    """Add Gaussian noise to log-probabilities and renormalise.

    The noise is a function of the answer, so repeated queries about one image do not average it out and audits are
    repeatable; two views of an image get independent noise.
    """
    keys = [zlib.crc32(row.tobytes()) for row in log_probs.double().mul(1e3).round().to(torch.int32).cpu().numpy()]
    drawn = [np.random.default_rng(key).standard_normal(log_probs.shape[1]) for key in keys]
    noise = torch.from_numpy(np.stack(drawn)) if drawn else torch.zeros(log_probs.shape)
    return F.log_softmax(log_probs + sd * noise.to(log_probs), -1)


def reverse_sigmoid(log_probs: Tensor, beta: float, gamma: float = GAMMA) -> Tensor:
    """Show p − β (σ(γ logit p) − 1/2), renormalised (Lee et al., Defending against model stealing, 2019)."""
    p = log_probs.exp().clamp(1e-7, 1 - 1e-7)
    poisoned = p - beta * (torch.sigmoid(gamma * torch.logit(p)) - 0.5)
    return (poisoned / poisoned.sum(-1, keepdim=True)).log()


def mad(log_probs: Tensor, budget: float) -> Tensor:
    """Show the answer within an L1 distance of p that rotates an attacker's gradient most, with the same top class.

    Maximising angular deviation (Orekondy, Schiele & Fritz, Prediction poisoning, ICLR 2020) for an untrained
    surrogate: the gradient of its last layer is (s − p) hᵀ, s uniform, so the angle is that between s − p and s − p'.
    As there, p' is searched on the lines from p to the corners of the simplex; here each line ends where the budget
    (the L1 distance), or the lead of the top class, is used up.
    """
    p = log_probs.double().exp()
    pull, (lead, best) = 1 / p.shape[-1] - p, p.max(-1, keepdim=True)
    gap = lead - p  # a unit step to corner j reduces the lead by gap + 1
    free = torch.full_like(p, torch.inf)
    held = (0.999 * gap / (gap + 1)).scatter(-1, best, free.gather(-1, best))
    far = p.sum(-1, keepdim=True) - 2 * p + 1  # L1 distance from p to corner j; 2 (1 − p_j) if all classes are shown
    step = torch.minimum(budget / far.clamp(min=1e-12), held).clamp(max=1)  # (N, K): length of the step to j
    step = torch.where(p > 0, step, 0.0)  # hidden classes stay hidden
    # After a step the pull is pull + step (p − e_j): compute its length, and its component along the old pull.
    length, own, along = ((a * b).sum(-1, keepdim=True) for a, b in ((pull, pull), (p, p), (pull, p)))
    same = length + step * (along - pull)
    left = length + 2 * step * (along - pull) + step**2 * (own + 1 - 2 * p)
    way = (same / left.clamp(min=1e-24).sqrt()).argmin(-1, keepdim=True)
    taken = step.gather(-1, way)
    shown = p * (1 - taken) + taken * torch.zeros_like(p).scatter(-1, way, 1)
    return shown.log().to(log_probs.dtype)


STEPS: tuple[Callable[[Tensor, float], Tensor], ...] = (top, rounded, tempered, noisy, reverse_sigmoid, sparse, mad)
APPLIED = dict(zip(kinds.STEPS, STEPS, strict=True))


@dataclass(frozen=True)
class Surface:
    """The transformations that an API applies to its answers, in order, written as in `temperature:4+top:5`.

    `label` shows only the top class. `logits` equals `probs` for every attack here: none uses the constant that
    probabilities do not reveal. `gradients` shows full probabilities with an explanation: the input gradient of the top
    class's log-probability. `uint8`, alone or before others (`uint8+label`), takes images as files store them: pixels
    are rounded to multiples of 1/255 before the network sees them.
    """

    name: str

    def __post_init__(self) -> None:
        _ = self.steps

    @classmethod
    def parse(cls, text: str) -> Surface:
        """Read a surface from the command line.

        Raises UsageError for an unknown part, a value out of range, or parts that do not go together.
        """
        return cls(text)

    @cached_property
    def steps(self) -> tuple[tuple[str, float], ...]:
        """The transformations with their values, in order; none for `probs`, `logits`, `label` and `gradients`."""
        return kinds.steps(self.name)

    @property
    def kind(self) -> Kind:
        """The most that an answer holds."""
        return kinds.kind(self.name)

    def taken(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] as they reach the network."""
        return images.mul(255).round().div(255) if self.name.split("+")[0] == EIGHT else images

    def __call__(self, log_probs: Tensor) -> Answers:
        """Apply this surface to log-probabilities (N, K)."""
        if self.kind == "label":
            return Answers("label", log_probs.argmax(-1))
        for name, value in self.steps:
            log_probs = APPLIED[name](log_probs, value)
        return Answers(self.kind, log_probs)

    def offers(self, need: Kind) -> bool:
        """Whether an attack that needs `need` can be run on this surface."""
        return kinds.offers(self.name, need)


FULL = Surface("probs")
