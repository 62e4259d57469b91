"""Answers that are computed when they are read: a student holds its batch, never a second table of all answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import overload

import torch
from torch import Tensor

from teachers.surface import Answers

Read = Callable[[Tensor], Tensor]  # from row numbers (B,) to rows (B, K)


@dataclass(frozen=True)
class LazyAnswers:
    """`count` rows of log-probabilities, of which `read` gives any: its first is row `begin`."""

    read: Read
    count: int
    begin: int = 0

    def __len__(self) -> int:
        return self.count

    @overload
    def __getitem__(self, index: Tensor) -> Answers: ...

    @overload
    def __getitem__(self, index: slice) -> LazyAnswers: ...

    def __getitem__(self, index: Tensor | slice) -> Answers | LazyAnswers:
        if isinstance(index, Tensor):
            return Answers("probs", self.read(self.begin + index))
        start, stop, _ = index.indices(self.count)
        return replace(self, begin=self.begin + start, count=stop - start)


def rows_about(images: Tensor, views: int, count: int) -> Tensor:
    """Return the rows of answers, view by view, that are about some (n,) of `count` images, (views·n,)."""
    return (count * torch.arange(views)[:, None] + images).flatten()
