"""Random crops of images that are in no pool, so that no stored view shows them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from teachers.task import Augment


def cropped(images: Tensor, augment: Augment, chance: torch.Generator) -> Tensor:
    """Shift and mirror images (N, C, H, W) at random, each on its own; the edge is repeated outside them."""
    n, _, h, w = images.shape
    pad = augment.pad
    down, right = torch.randint(2 * pad + 1, (2, n, 1), generator=chance)
    rows, columns = down + torch.arange(h), torch.arange(w).expand(n, w)
    if augment.flip:
        columns = torch.where(torch.rand(n, 1, generator=chance) < 0.5, columns.flip(1), columns)
    columns = columns + right
    which, rows, columns = (t.to(images.device, non_blocking=True) for t in (torch.arange(n), rows, columns))
    wide = F.pad(images, (pad, pad, pad, pad), mode="replicate").permute(0, 2, 3, 1)
    return wide[which[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
