"""The only access to a teacher: images in, answers out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from teachers.errors import BudgetExceeded, RefusedInput
from teachers.surface import FULL, Answers, Surface, concatenate
from teachers.task import Pool

# Images per forward pass; the last batch is padded, because the last bit of an answer may depend on the batch size.
CHUNK = 256
PIXELS = CHUNK * 3 * 64 * 64  # per forward pass: fewer images at a time if they are larger than 64 × 64

Ask = Callable[[Tensor], Answers]


def at_once(shape: tuple[int, int, int]) -> int:
    """Return the number of images per question: a multiple of CHUNK, so that no answer depends on it."""
    return CHUNK * max(1, PIXELS // (CHUNK * math.prod(shape)))


def batch(shape: tuple[int, int, int]) -> int:
    """Return the number of images per forward pass, whatever a question holds."""
    return max(16, min(CHUNK, PIXELS // math.prod(shape)))


class Oracle:
    """Answer float images (N, C, H, W) in [0, 1], as raw pixels: the teacher does its own preprocessing.

    `budget` is the number of images it answers in all (None: no limit); `charged` counts them. A query that would
    exceed the budget raises BudgetExceeded before anything is sent. Answers have no autograd graph. Queries that serve
    to estimate a gradient go to `estimate_by`, so that a ledger can count them apart; by default also to `ask`.
    """

    def __init__(
        self,
        ask: Ask,
        *,
        surface: Surface,
        shape: tuple[int, int, int],
        budget: int | None = None,
        estimate_by: Ask | None = None,
    ) -> None:
        self.ask = ask
        self.estimate_by = estimate_by or ask
        self.surface = surface
        self.shape = shape
        self.budget = budget
        self.charged = 0

    def __call__(self, images: Tensor) -> Answers:
        """Ask about a batch.

        Raises BudgetExceeded, or ValueError if the images do not have the teacher's shape or range.
        """
        return self.ask(self._charged(images))

    def estimate(self, images: Tensor) -> Answers:
        """Ask about images that no student is trained on, but that serve to estimate a gradient.

        They count against the same budget. Raises what a query raises.
        """
        return self.estimate_by(self._charged(images))

    def _charged(self, images: Tensor) -> Tensor:
        """Check and count a batch; return it without its autograd graph."""
        x = images.detach()
        if x.ndim != 4 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"the oracle takes images of shape (N, {self.shape}), not {tuple(x.shape)}")
        if not x.is_floating_point() or not (x.min() >= 0 and x.max() <= 1):
            raise ValueError("the oracle takes float images with values in [0, 1]: raw pixels, not normalised ones")
        self.charge(len(x))
        return x

    def charge(self, images: int) -> None:
        """Count images against the budget without asking, because their answers are stored."""
        if self.budget is not None and self.charged + images > self.budget:
            raise BudgetExceeded(
                f"{images} more queries would make {self.charged + images}, above the budget of {self.budget}; "
                "raise --budget or leave this attack out"
            )
        self.charged += images


class Box:
    """A teacher network behind a surface, for `Oracle`, in the process that holds the weights."""

    def __init__(self, network: nn.Module, surface: Surface = FULL, device: torch.device | str = "cpu") -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._device = device
        self.surface = surface

    def __call__(self, images: Tensor) -> Answers:
        """Answer images (N, C, H, W) in chunks, on the CPU.

        Raises RefusedInput if the network returns NaN or infinity, or not one row per image.
        """
        self._network.eval()
        size = batch((images.shape[1], images.shape[2], images.shape[3]))
        return concatenate([self._chunk(part, size) for part in torch.split(images, size)])

    def _chunk(self, images: Tensor, size: int) -> Answers:
        explains = self.surface.kind == "gradients"
        short = size - len(images)
        images = self.surface.taken(images)
        padded = images if short == 0 else torch.cat([images, images[:1].expand(short, -1, -1, -1)])
        with torch.set_grad_enabled(explains):
            x = padded.to(self._device).detach().requires_grad_(explains)
            logits = self._network(x).float()
            log_probs = F.log_softmax(logits, -1)
            explained = log_probs.max(-1).values.sum()
        _check(logits[: len(images)], images)
        answers = self.surface(log_probs.detach().cpu()[: len(images)])
        if not explains:
            return answers
        if not explained.requires_grad:
            raise RefusedInput("this teacher has no input gradients; give another --surface")
        (slope,) = torch.autograd.grad(explained, x)
        return replace(answers, gradients=slope.cpu()[: len(images)])


def _check(logits: Tensor, images: Tensor) -> None:
    if logits.ndim != 2 or len(logits) != len(images):
        raise RefusedInput(
            f"the teacher answered {tuple(logits.shape)} to {len(images)} images; it must give one row each"
        )
    # A guard may hide some classes (−inf), but not all.
    bad = int((torch.isnan(logits).any(-1) | ~torch.isfinite(logits.amax(-1))).sum())
    if bad:
        raise RefusedInput(
            f"the teacher answered NaN or infinity on {bad} of {len(images)} images; "
            "check the checkpoint and --normalize"
        )


def top_classes(box: Ask, pool: Pool) -> np.ndarray:
    """Return the top class of every image of a pool, (N,) uint16."""
    top: np.ndarray = log_probs(box, pool).argmax(-1).astype(np.uint16)
    return top


def log_probs(box: Ask, pool: Pool) -> np.ndarray:
    """Return log-probabilities of every image of a pool, (N, K)."""
    answers: np.ndarray | None = None  # one array: with many small ones the allocator would not return memory
    size = at_once(pool.shape)
    for at in range(0, len(pool), size):
        part = box(torch.from_numpy(pool.images[at : at + size]).float().div_(255)).values.numpy()
        if answers is None:
            answers = np.empty((len(pool), *part.shape[1:]), part.dtype)
        answers[at : at + len(part)] = part
    assert answers is not None
    return answers
