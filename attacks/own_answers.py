"""Where a budget does not pay for all answers, an attacker answers the rest: of their own images they know the labels.

Only what the teacher is asked costs a query, not a view. A view that is not asked about takes the teacher's answer
about another view of the same image. An image of which no view is asked about, and a mix of images that is not, is
answered with smoothed labels, as by a teacher that knows these and nothing else. So an attack without any query is
its own loss on labels, and each query changes the answers that it pays for, and no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from attacks.lazy import LazyAnswers
from teachers.surface import Answers, Kind
from teachers.synthetic import smoothed
from teachers.targets.questions import dealt
from teachers.task import UNLABELLED, Pool
from teachers.training import AnswerRows
from teachers.views import ViewSet

Index = NDArray[np.int64]
CHUNK = 4096  # answers that are completed at once


@dataclass(frozen=True)
class Paid:
    """What a budget pays of the answers about all views of some images of a pool: set by set, view-major."""

    pool: Pool
    sets: tuple[ViewSet, ...]  # all views that the attack learns from
    index: Index  # of their images, (n,)
    images: Index  # those that the teacher is asked about, (m,)
    counts: tuple[int, ...]  # in so many views of each set, the first ones
    kind: Kind  # of an answer
    classes: int

    def __len__(self) -> int:
        return sum(one.count for one in self.sets) * len(self.index)

    @property
    def asked(self) -> list[ViewSet]:
        """The views that the teacher is asked about."""
        return [ViewSet(one.kind, count) for one, count in zip(self.sets, self.counts, strict=True) if count]

    @property
    def views(self) -> int:
        """How many these are, of an image."""
        return sum(self.counts)

    @property
    def queries(self) -> int:
        """How many answers the teacher gives: `views` times `images`, view-major."""
        return self.views * len(self.images)

    @property
    def whole(self) -> bool:
        """Whether the teacher gives all answers."""
        return self.queries == len(self)

    def completed(self, told: AnswerRows) -> AnswerRows:
        """Return all answers, given the teacher's or what they were turned into; computed when they are read."""
        return told if self.whole else LazyAnswers(lambda rows: self.read(told, rows).values, len(self))

    def parts(self, told: Answers) -> Iterator[Answers]:
        """Return all answers, part after part."""
        return (self.read(told, rows) for rows in torch.split(torch.arange(len(self)), CHUNK))

    def read(self, told: AnswerRows, rows: Tensor) -> Answers:
        """Return some of all answers, (B,). An explanation is about its pixels: other views have none, but zeros."""
        place, exact = self.source(rows)
        theirs = place >= 0
        own = self.own(rows[~theirs])
        if not theirs.any():
            return own
        given = told[place[theirs]]
        values = torch.empty((len(rows), *given.values.shape[1:]), dtype=given.values.dtype)
        values[theirs], values[~theirs] = given.values, own.values.to(values)
        if given.gradients is None:
            return Answers(given.kind, values)
        gradients = torch.zeros(len(rows), *self.pool.shape)
        gradients[exact] = given.gradients[exact[theirs]]
        return Answers(given.kind, values, gradients)

    def source(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return which of the teacher's answers each of some is, −1 for an own one, and whether it is about that view.

        Both (B,). Views that are not asked about have the answers of those that are, in turn; but a mix has that of the
        labels, where both are known.
        """
        view, at = rows // len(self.index), rows % len(self.index)
        number, exact, blurred = (column[view] for column in self._views)
        place = torch.where(self._position[at] < 0, -1, number * len(self.images) + self._position[at])
        place = torch.where(blurred & (self._truth(rows)[1] != UNLABELLED).all(0), -1, place)
        return place, exact & (place >= 0)

    def own(self, rows: Tensor) -> Answers:
        """Return what labels say of some views, (B,): smoothed, or that of the larger part where a label is shown."""
        weight, labels = self._truth(rows)
        if self.kind == "label":
            return Answers("label", labels[0])
        image, other = (smoothed(part, self.classes) for part in labels)
        log_probs = F.log_softmax((weight[:, None] * image + (1 - weight[:, None]) * other).log(), -1)
        none = torch.zeros(len(rows), *self.pool.shape) if self.kind == "gradients" else None
        return Answers(self.kind, log_probs, none)

    @property
    def possible(self) -> bool:
        """Whether the attacker knows the labels of all images that are not asked about, and of what these mix."""
        labels = self._labels if any(one.mixes for one in self.sets) else self._labels[torch.from_numpy(self.index)]
        return len(self.images) == len(self.index) or bool((labels != UNLABELLED).all())

    @cached_property
    def _position(self) -> Tensor:
        """The place of every image among those that the teacher is asked about, −1 for the others, (n,)."""
        asked = torch.from_numpy(np.isin(self.index, self.images))
        return torch.where(asked, asked.cumsum(0) - 1, -1)

    @cached_property
    def _views(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of every view: the number of the one whose answer it has, whether that is itself, and whether it is a mix's.

        The last one holds for views that have another one's answer where one of the two mixes images.
        """
        rows: list[tuple[int, bool, bool]] = []
        for i, (one, count) in enumerate(zip(self.sets, self.counts, strict=True)):
            first, length, like = (sum(self.counts[:i]), count, one) if count else (0, self.counts[0], self.sets[0])
            for view in range(one.count):
                itself = view < count
                rows.append((first + view % length, itself, not itself and (one.mixes or like.mixes)))
        number, exact, blurred = zip(*rows, strict=True)
        return torch.tensor(number), torch.tensor(exact), torch.tensor(blurred)

    def _truth(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the share of the larger part of each view, (B,), and the labels of both parts, (2, B)."""
        view, image = rows // len(self.index), torch.from_numpy(self.index)[rows % len(self.index)]
        weight, partner = torch.ones(len(rows)), image
        if self._mixes is not None:
            weight, partner = (drawn[view, image] for drawn in self._mixes)
        return weight, self._labels[torch.stack([image, partner])]

    @cached_property
    def _labels(self) -> Tensor:
        return torch.from_numpy(self.pool.every_label)

    @cached_property
    def _mixes(self) -> tuple[Tensor, Tensor] | None:
        """Share and partner of every view of every image of the pool, (V, N); None where nothing is mixed."""
        if not any(one.mixes for one in self.sets):
            return None
        drawn = [one.draw(self.pool) for one in self.sets]
        return torch.cat([part.weight for part in drawn]), torch.cat([part.partner for part in drawn])


def pay(pool: Pool, sets: Sequence[ViewSet], index: Index, left: int, kind: Kind, classes: int) -> Paid:
    """Return what `left` queries pay of the answers about all views of some images: all, where there is no other way.

    If they pay for a view of each image, all images have equally many, dealt out to the kinds of views in turn. If not,
    the first images of an order that is the same for every seed and every budget have one view.
    """
    everything = Paid(pool, tuple(sets), index, index, tuple(one.count for one in sets), kind, classes)
    if left >= everything.queries:
        return everything
    order = np.argsort(np.random.default_rng(0).permutation(len(pool))[index])
    images = np.sort(index[order[:left]])
    paid = replace(everything, images=images, counts=dealt(everything.counts, left // max(1, len(images)) or 1))
    return paid if paid.possible else everything
