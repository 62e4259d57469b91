"""Choose among several ways to use a network by their accuracy, and detect another order of the classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teachers.proportions import LEVEL, Correct, mcnemar

HALVED = 0.5  # share of the errors, at most, that the right order of the classes leaves

Tops = NDArray[np.uint16]  # (n,) top classes; K (past the last class) if there was no answer


@dataclass(frozen=True)
class Choice:
    """Ways to use a network by accuracy, best first, and p-values that the best is better than each other way."""

    accuracies: Mapping[str, float]
    p: Mapping[str, float]  # of every way but the best, corrected for their number

    @property
    def best(self) -> str:
        """The most accurate way; the first of several that are equal."""
        return next(iter(self.accuracies))

    @property
    def rivals(self) -> tuple[str, ...]:
        """The ways whose accuracy is not significantly below the best."""
        return tuple(other for other, p in self.p.items() if p >= LEVEL)

    @property
    def clear(self) -> bool:
        """Whether the best is significantly better than every other way."""
        return not self.rivals

    def then(self, later: Choice) -> Choice:
        """Merge a later comparison of the remaining ways on more images; the ways dropped before keep their numbers."""
        fallen = [name for name in self.accuracies if name not in later.accuracies]
        return Choice(
            accuracies={**later.accuracies, **{name: self.accuracies[name] for name in fallen}},
            p={**later.p, **{name: self.p[name] for name in fallen}},
        )


def choose(tried: Mapping[str, Correct], others: int | None = None) -> Choice:
    """Compare the most accurate way with every other; `tried` says for each which of the images it got right, (n,).

    McNemar's exact test, one-sided, at LEVEL after Bonferroni's correction for the number of other ways (`others`).
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
    """Another order of the classes, found on half of the images, and its accuracy on the other half."""

    classes: tuple[int, ...]  # for each output of the network, the task's class that it stands for
    images: int  # in the other half
    accuracy: float  # on them, with the outputs reordered
    before: float  # on them, with the outputs as they are
    p: float


def permuted(tops: Tops, labels: NDArray[np.int64], classes: int, tries: int = 1) -> Permutation | None:
    """Return the order of the classes under which a network is much more accurate, or None.

    The best assignment of outputs to classes on the even images is judged on the odd ones: it must leave at most half
    of the errors, and be better at LEVEL after correction for `tries` (McNemar's exact test, one-sided). Smaller gains
    also occur with a wrong normalisation, or an untrained network. An output that is never the top class of an even
    image keeps its class if no other output takes it.
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
