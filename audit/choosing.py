"""Which of several ways to use one network is its own, and whether its classes are in another order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.compare import Correct, mcnemar
from audit.teacher_checks import GAIN, LEVEL

Tops = NDArray[np.uint16]  # (n,) top classes; a number past the last class where there was no answer


@dataclass(frozen=True)
class Choice:
    """Ways to use a network by accuracy, and which of them are in question."""

    accuracies: Mapping[str, float]  # the best first
    rivals: tuple[str, ...]  # those that the best is not clearly better than
    p: float  # the largest of the best against another, corrected for their number

    @property
    def best(self) -> str:
        """The most accurate way, the first of those that are equal."""
        return next(iter(self.accuracies))

    @property
    def clear(self) -> bool:
        """Whether the best is better than all others by more than chance would have it."""
        return not self.rivals


def choose(tried: Mapping[str, Correct]) -> Choice:
    """Compare the most accurate way with every other on the same images (n,), correct or not.

    McNemar's exact test, one-sided, at LEVEL after Bonferroni's correction for the number of others.
    """
    ordered = dict(sorted(tried.items(), key=lambda item: -int(item[1].sum())))  # stable: equal ones keep their order
    best, *others = ordered
    p = {other: min(1.0, len(others) * mcnemar(ordered[best], ordered[other])) for other in others}
    return Choice(
        accuracies={name: float(right.mean()) for name, right in ordered.items()},
        rivals=tuple(other for other in others if p[other] >= LEVEL),
        p=max(p.values(), default=0.0),
    )


@dataclass(frozen=True)
class Permutation:
    """Another order of the classes, found on half of the images, and what it is worth on the other half."""

    classes: tuple[int, ...]  # by output of the network, the class of the task that it means
    images: int  # of the other half
    accuracy: float  # on them, once the outputs are reordered
    before: float
    p: float


def permuted(tops: Tops, labels: NDArray[np.int64], classes: int, tries: int = 1) -> Permutation | None:
    """Return the order of the classes under which a network is clearly more accurate, if there is one.

    The best assignment of outputs to classes on the even images is judged on the odd ones: it must be better by GAIN,
    and at LEVEL after correction for `tries` (McNemar's exact test, one-sided). An output that never was the top class
    of an even image keeps its class where that is free.
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((classes + 1, classes))
    np.add.at(counts, (np.minimum(tops[::2], classes), labels[::2]), 1)
    counts = counts[:classes] + 0.5 * np.eye(classes)  # so that nothing moves without a reason
    _, meant = linear_sum_assignment(counts, maximize=True)
    if (meant == np.arange(classes)).all():
        return None
    held, right = tops[1::2], labels[1::2]
    mapped = np.append(meant, classes)[np.minimum(held, classes)] == right
    before = held == right
    p = min(1.0, tries * mcnemar(mapped, before))
    if mapped.mean() - before.mean() < GAIN or p >= LEVEL:
        return None
    return Permutation(tuple(map(int, meant)), len(right), float(mapped.mean()), float(before.mean()), p)
