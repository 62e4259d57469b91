"""What students classify correctly, as arrays: of a running audit and of a record alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.statistics.collapses import pairs
from audit.statistics.compare import Margin, above, paired
from audit.statistics.image_groups import Groups
from audit.statistics.sequential import HORIZON, Looks
from reports.record import DISCORDANT
from teachers.proportions import majority

Bits = NDArray[np.bool_]
Right = Callable[[Sequence[str]], Bits]  # from the keys of S students to what each classifies correctly, (S, images)


def seen(labels: NDArray[np.integer[Any]], unseen: Sequence[int]) -> Bits:
    """Return which images are of classes that the attacker has seen, (N,)."""
    return ~np.isin(labels, unseen)


@dataclass(frozen=True)
class ResultArrays:
    """The arrays from which an audit's numbers are computed."""

    labels: NDArray[np.integer[Any]]  # of the test images, (N,)
    validation_labels: NDArray[np.integer[Any]]  # (M,)
    unseen: tuple[int, ...]  # classes of which the attacker never saw an image
    on_test: Right  # (S, N)
    on_validation: Right  # (S, M); nothing is correct of a student that diverged
    retrains: bool = field(default=True, kw_only=True)  # whether collapsed students count as trained again
    image_groups: Groups | None = field(default=None, kw_only=True)  # of all test images, (N,)

    @cached_property
    def judged(self) -> Bits:
        """Which test images the verdict rests on, (N,)."""
        return seen(self.labels, self.unseen)

    @cached_property
    def groups(self) -> Groups | None:
        """The group of each judged test image, (judged,); None where every image is on its own."""
        return None if self.image_groups is None else self.image_groups[self.judged]

    @cached_property
    def tuned(self) -> Bits:
        """Which validation images choose settings and controls, (M,)."""
        return seen(self.validation_labels, self.unseen)

    def correct(self, students: Sequence[str]) -> Bits:
        """Return which judged test images each student classifies correctly, (S, judged)."""
        return self.on_test(students)[:, self.judged]

    def tuning(self, students: Sequence[str]) -> Bits:
        """Return which tuning images each student classifies correctly, (S, tuned)."""
        return self.on_validation(students)[:, self.tuned]

    def same(self, mine: Sequence[str], control: Sequence[str]) -> bool:
        """Whether students are their controls: right on the same images, seed by seed.

        An attack whose best setting learns from the labels alone trains the student of its own loss on bare labels. Of
        students that make fewer than `DISCORDANT` mistakes it cannot be told.
        """
        splits = [(right(mine), right(control)) for right in (self.correct, self.tuning)]
        if any(a.shape != b.shape or (a != b).any() for a, b in splits):
            return False
        return int(min(sum((~a).sum(1) for a, _ in splits))) >= DISCORDANT

    def margins(
        self, mine: Sequence[str], control: Sequence[str], seeds: Sequence[int], horizon: int = HORIZON
    ) -> Looks:
        """Return the margin of students over their controls, paired by seed, at every look."""
        found = (paired(*self.typical(mine[:s], control[:s]), self.groups) for s in seeds)
        return Looks(tuple(map(self.bounded, found)), horizon)

    def over_largest(self, mine: Sequence[str], seeds: Sequence[int], horizon: int = HORIZON) -> Looks:
        """Return what students gain over naming the largest class always, at every look."""
        least, right = majority(self.labels[self.judged]), self.correct(mine)
        return Looks(tuple(self.bounded(above(right[:s], least, self.groups)) for s in seeds), horizon)

    def bounded(self, margin: Margin) -> Margin:
        """Return a margin whose bounds lie where a margin can be; in records of earlier versions they do not."""
        return margin if self.retrains else margin.anywhere()

    def typical(self, mine: Sequence[str], control: Sequence[str]) -> tuple[Bits, Bits]:
        """Return what students and their controls classify correctly, without the seeds of which one collapsed."""
        right, theirs = self.correct(mine), self.correct(control)
        if not self.retrains or len(right) != len(theirs):  # a record from elsewhere may lack students
            return right, theirs
        kept = pairs(self.tuning(mine), self.tuning(control))
        return right[kept], theirs[kept]
