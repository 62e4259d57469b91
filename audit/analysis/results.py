"""What students classify correctly, as arrays: of a running audit and of a record alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.statistics.sequential import HORIZON, Looks, looks

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

    @cached_property
    def judged(self) -> Bits:
        """Which test images the verdict rests on, (N,)."""
        return seen(self.labels, self.unseen)

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

    def margins(
        self, mine: Sequence[str], control: Sequence[str], seeds: Sequence[int], horizon: int = HORIZON
    ) -> Looks:
        """Return the margin of students over their controls, paired by seed, at every look."""
        return looks(self.correct(mine), self.correct(control), seeds, horizon)
