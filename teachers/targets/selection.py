"""Which of several ways to use one network is its own, and whether its classes are in another order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teachers.proportions import LEVEL, Correct, mcnemar

HALVED = 0.5  # of the errors, at most, are left in the right order of the classes

Tops = NDArray[np.uint16]  # (n,) top classes; a number past the last class where there was no answer


@dataclass(frozen=True)
class Choice:
    """Ways to use a network by accuracy, the best first, and how sure it is that the best is better than another."""

    accuracies: Mapping[str, float]
    p: Mapping[str, float]  # of every other way, corrected for their number

    @property
    def best(self) -> str:
        """The most accurate way, the first of those that are equal."""
        return next(iter(self.accuracies))

    @property
    def rivals(self) -> tuple[str, ...]:
        """The ways that the best is not clearly better than."""
        return tuple(other for other, p in self.p.items() if p >= LEVEL)

    @property
    def clear(self) -> bool:
        """Whether the best is better than all others by more than chance would have it."""
        return not self.rivals

    def then(self, later: Choice) -> Choice:
        """Put a comparison of those that were left on more images in place of the first one."""
        fallen = [name for name in self.accuracies if name not in later.accuracies]
        return Choice(
            accuracies={**later.accuracies, **{name: self.accuracies[name] for name in fallen}},
            p={**later.p, **{name: self.p[name] for name in fallen}},
        )


def choose(tried: Mapping[str, Correct], others: int | None = None) -> Choice:
    """Compare the most accurate way with every other on the same images (n,), correct or not.

    McNemar's exact test, one-sided, at LEVEL after Bonferroni's correction for the number of others.
    """
    ordered = dict(sorted(tried.items(), key=lambda item: -int(item[1].sum())))  # stable: equal ones keep their order
    best, *rest = ordered
    tests = len(rest) if others is None else others
    return Choice(
        accuracies={name: float(right.mean()) for name, right in ordered.items()},
        p={other: min(1.0, tests * mcnemar(ordered[best], ordered[other])) for other in rest},
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
    """Return the order of the classes under which a network is much more accurate, if there is one.

    The best assignment of outputs to classes on the even images is judged on the odd ones: it must leave at most half
    of the errors, and be better at LEVEL after correction for `tries` (McNemar's exact test, one-sided). Less than that
    an assignment also gains for networks behind a wrong normalisation, or without training. An output that never was
    the top class of an even image keeps its class where that is free.
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
    if 1 - mapped.mean() > HALVED * (1 - before.mean()) or p >= LEVEL:
        return None
    return Permutation(tuple(map(int, meant)), len(right), float(mapped.mean()), float(before.mean()), p)
