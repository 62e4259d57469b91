"""Synthetic teachers of known distillability."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from teachers.task import Pool
from teachers.views import Viewer, ViewSet


class SmoothedTruth(nn.Module):
    """Answer the smoothed label of a pool's labelled images and of their crop views, and elsewhere nothing: uniform.

    Nothing can be learnt from it that label smoothing does not already teach: an audit must not find it distillable.
    Images are recognised by a digest of their pixels as bytes: every audit holds this teacher, and views are many.
    """

    def __init__(self, pool: Pool, classes: int, views: int, smoothing: float = 0.1) -> None:
        super().__init__()
        self._k, self._smoothing = classes, smoothing
        self._label: dict[bytes, int] = {}
        index = torch.from_numpy(pool.labelled)
        labels = np.zeros(0, np.int64) if pool.labels is None else pool.labels[pool.labelled]
        for kind, count in (("raw", 1), ("crop", views)):
            viewer = Viewer(pool, ViewSet(kind, count))  # type: ignore[arg-type]  # both are kinds
            for view in range(count):
                pixels = _digests(viewer(index, torch.full_like(index, view)))
                self._label |= dict(zip(pixels, labels.tolist(), strict=True))

    def forward(self, x: Tensor) -> Tensor:
        labels = torch.tensor([self._label.get(key, -1) for key in _digests(x)])
        rows = torch.full((len(x), self._k), 1 / self._k)
        seen = labels >= 0
        rows[seen] = self._smoothing / self._k
        rows[seen, labels[seen]] += 1 - self._smoothing
        return rows.log()


def _digests(x: Tensor) -> list[bytes]:
    pixels = (x.cpu() * 255).round().to(torch.uint8).flatten(1).numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in np.ascontiguousarray(pixels)]
