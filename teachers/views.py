"""Views: the augmented forms of an image that a student sees and that the teacher is asked about.

Within a pool, a view depends only on the image index and the view id, so that control and attack see the same pixels
and every answer belongs to one view.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from teachers.data.stored import StoredImages
from teachers.errors import UsageError
from teachers.task import Pool

Kind = Literal["raw", "crop", "strong", "mixup", "strong-mixup"]
KINDS: tuple[str, ...] = get_args(Kind)

WINDOW = (0.7, 1.0)  # share of the height, and of the width, that a strong view shows
GAIN, BIAS = 0.4, 0.15  # largest change of a strong view's contrast, and of its brightness in full scale


class Draws(NamedTuple):
    """The random parameters of every (view, image), as tensors of shape (V, N)."""

    down: Tensor  # rows into the padded image
    right: Tensor
    flip: Tensor
    partner: Tensor  # index of the image mixed in
    weight: Tensor  # share of the image itself, float32 in [0.5, 1]
    window: Tensor  # (V, N, 4) float32 of a strong view: centre y and x in [−1, 1], height and width as fractions
    light: Tensor  # (V, N, 2) float32 of a strong view: gain and bias


@dataclass(frozen=True)
class ViewSet:
    """A number of views, all of one kind, of every image of a pool."""

    kind: Kind
    count: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"unknown kind of view {self.kind!r}; there are {', '.join(KINDS)}")

    def draw(self, pool: Pool) -> Draws:
        """Draw the parameters of all views of a pool, seeded by kind, view number and size of the pool."""
        parts = [self._one(pool, view) for view in range(self.count)]
        return Draws(*(torch.from_numpy(np.stack(column)) for column in zip(*parts, strict=True)))

    def _one(self, pool: Pool, view: int) -> tuple[np.ndarray, ...]:
        n, pad = len(pool), pool.augment.pad
        still = np.full(n, pad)
        whole, even = (np.tile(np.array(row, np.float32), (n, 1)) for row in ((0, 0, 1, 1), (1, 0)))
        if self.kind == "raw":
            return still, still, np.zeros(n, bool), np.arange(n), np.ones(n, np.float32), whole, even
        rng = np.random.default_rng([zlib.crc32(self.kind.encode()), view, n])
        down, right = rng.integers(0, 2 * pad + 1, (2, n))
        flip = rng.random(n) < (0.5 if pool.augment.flip else 0)
        weight, partner = np.ones(n, np.float32), np.arange(n)
        if self.mixes:
            drawn = rng.random(n)
            weight, partner = np.maximum(drawn, 1 - drawn).astype(np.float32), rng.permutation(n)
        if self.strong:
            size = rng.uniform(*WINDOW, (n, 2))
            whole = np.concatenate([(1 - size) * rng.uniform(-1, 1, (n, 2)), size], 1).astype(np.float32)
            even = rng.uniform((1 - GAIN, -BIAS), (1 + GAIN, BIAS), (n, 2)).astype(np.float32)
        return down, right, flip, partner, weight, whole, even

    @property
    def mixes(self) -> bool:
        """Whether two images are mixed."""
        return self.kind.endswith("mixup")

    @property
    def strong(self) -> bool:
        """Whether a view enlarges a part of the image and changes its contrast and brightness."""
        return self.kind.startswith("strong")


class Viewer:
    """Compute the pixels of views, in batches, on a device."""

    def __init__(self, pool: Pool, views: ViewSet, device: torch.device | str = "cpu") -> None:
        self._pool, self._device = pool, device
        on_disk = isinstance(pool.images, StoredImages)
        self._whole = None if on_disk else torch.from_numpy(np.ascontiguousarray(pool.images)).to(device)
        self.draws = Draws(*(t.to(device) for t in views.draw(pool)))
        self._mixes, self._strong = views.mixes, views.strong
        _, h, w = pool.shape
        self._pad = pool.augment.pad
        self._h = torch.arange(h, device=device)
        self._w = torch.arange(w, device=device)

    def __call__(self, index: Tensor, view: Tensor) -> Tensor:
        """Return the pixels of some views as float32 in [0, 1], (B, C, H, W); `index` and `view` have shape (B,)."""
        x = self._crop(index, view, index)
        if not self._mixes:
            return x
        weight = self.draws.weight[view, index][:, None, None, None]
        partner = self._crop(self.draws.partner[view, index], view, index)
        return x * weight + partner * (1 - weight)

    def _crop(self, image: Tensor, view: Tensor, index: Tensor) -> Tensor:
        rows = self.draws.down[view, index][:, None] + self._h  # (B, H)
        columns = torch.where(self.draws.flip[view, index][:, None], self._w.flip(0), self._w)
        columns = columns + self.draws.right[view, index][:, None]  # (B, W)
        # Replicate padding: rows and columns outside the image repeat its edge.
        rows, columns = (rows - self._pad).clamp(0, len(self._h) - 1), (columns - self._pad).clamp(0, len(self._w) - 1)
        images = self._images(image)  # (B, C, H, W)
        at = (rows[:, :, None] * len(self._w) + columns[:, None, :]).flatten(1)  # (B, H * W) into the flat image
        seen = images.flatten(2).gather(2, at[:, None].expand(-1, images.shape[1], -1))  # a byte a pixel: fast
        pixels = seen.view(images.shape).float().div_(255)
        return self._window(pixels, view, index) if self._strong else pixels

    def _images(self, index: Tensor) -> Tensor:
        if self._whole is not None:
            return self._whole[index]
        return torch.from_numpy(self._pool.images[index.cpu().numpy()]).to(self._device)

    def _window(self, pixels: Tensor, view: Tensor, index: Tensor) -> Tensor:
        """Enlarge a window of each image to its full size, and change its contrast and brightness."""
        y, x, tall, wide = self.draws.window[view, index].unbind(-1)
        still = torch.zeros_like(x)
        theta = torch.stack([torch.stack([wide, still, x], -1), torch.stack([still, tall, y], -1)], 1)  # (B, 2, 3)
        grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
        seen = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        gain, bias = self.draws.light[view, index][:, :, None, None, None].unbind(1)
        mean = seen.mean((1, 2, 3), keepdim=True)
        return (mean + gain * (seen - mean) + bias).clamp(0, 1)
