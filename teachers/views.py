"""Views: what a student sees of an image, and what the teacher is asked about.

A view is a pure function of (image index, view id) within a pool, so that control and knockoff see the same pixels
and an answer belongs to a view.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from teachers.errors import UsageError
from teachers.task import Pool

Kind = Literal["raw", "crop", "mixup"]
KINDS: tuple[str, ...] = get_args(Kind)


class Draws(NamedTuple):
    """What was drawn for every (view, image), as tensors of shape (V, N)."""

    down: Tensor  # rows into the padded image
    right: Tensor
    flip: Tensor
    partner: Tensor  # index of the image mixed in
    weight: Tensor  # of the image itself, float32 in [0.5, 1]


@dataclass(frozen=True)
class ViewSet:
    """`count` views of one kind of every image of a pool."""

    kind: Kind
    count: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"unknown kind of view {self.kind!r}; there are {', '.join(KINDS)}")

    def draw(self, pool: Pool) -> Draws:
        """Draw all views of a pool from their ids alone."""
        parts = [self._one(pool, view) for view in range(self.count)]
        return Draws(*(torch.from_numpy(np.stack(column)) for column in zip(*parts, strict=True)))

    def _one(self, pool: Pool, view: int) -> tuple[np.ndarray, ...]:
        n, pad = len(pool), pool.augment.pad
        if self.kind == "raw":
            still = np.full(n, pad)
            return still, still, np.zeros(n, bool), np.arange(n), np.ones(n, np.float32)
        rng = np.random.default_rng([zlib.crc32(self.kind.encode()), view, n])
        down, right = rng.integers(0, 2 * pad + 1, (2, n))
        flip = rng.random(n) < (0.5 if pool.augment.flip else 0)
        if self.kind == "crop":
            return down, right, flip, np.arange(n), np.ones(n, np.float32)
        weight = rng.random(n)
        return down, right, flip, rng.permutation(n), np.maximum(weight, 1 - weight).astype(np.float32)


class Viewer:
    """Makes the pixels of views, batched, on a device."""

    def __init__(self, pool: Pool, views: ViewSet, device: torch.device | str = "cpu") -> None:
        pad = pool.augment.pad
        edges = ((0, 0), (0, 0), (pad, pad), (pad, pad))
        self._padded = torch.from_numpy(np.pad(pool.images, edges, mode="edge")).to(device)
        self.draws = Draws(*(t.to(device) for t in views.draw(pool)))
        self._mixes = views.kind == "mixup"
        c, h, w = pool.shape
        self._c = torch.arange(c, device=device)[None, :, None, None]
        self._h = torch.arange(h, device=device)
        self._w = torch.arange(w, device=device)

    def __call__(self, index: Tensor, view: Tensor) -> Tensor:
        """Return the pixels of some views as float32 in [0, 1], (B, C, H, W); `index` and `view` have shape (B,)."""
        x = self._crop(index, view, index).float().div_(255)
        if not self._mixes:
            return x
        weight = self.draws.weight[view, index][:, None, None, None]
        partner = self._crop(self.draws.partner[view, index], view, index).float().div_(255)
        return x * weight + partner * (1 - weight)

    def _crop(self, image: Tensor, view: Tensor, index: Tensor) -> Tensor:
        rows = self.draws.down[view, index][:, None] + self._h  # (B, H)
        columns = torch.where(self.draws.flip[view, index][:, None], self._w.flip(0), self._w)
        columns = columns + self.draws.right[view, index][:, None]  # (B, W)
        return self._padded[image[:, None, None, None], self._c, rows[:, None, :, None], columns[:, None, None, :]]
