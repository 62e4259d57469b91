"""Students that collapsed: which of some seeds an attacker would train again. Pure functions.

Training sometimes fails for a seed: a student ends points below its siblings. The mean over few seeds says little about
rare failures: those that were not drawn make a side look better than its mean, those that were drawn move the mean and
widen its interval. Whoever trains a student looks at its validation accuracy and trains it again with another seed
where it is far below the others. So both sides are judged by the students that pass this look, and the margin is the
difference of their expected accuracies. The rule is fixed in advance, is the same for knockoff and control, and sees no
test image. What is too small for it, an attacker cannot tell from luck either; such losses count as seed noise.

The reference is the upper quartile, and the scale comes from the deviations that are smallest, so that the rule holds
while more than half of the students collapse. benchmarks/collapses.py simulates it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FAR = 3.0  # standard deviations below its siblings' middle at which a student is trained again
MOST = 0.25  # share of a side's students that may collapse in a comparison that decides
_QUARTER = 0.31864  # of absolute standard normal deviations, a quarter is smaller
_UPPER = 0.67449  # upper quartile of a standard normal


def passing(validation: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which students nobody would train again, (S,); `validation` (S, M) says which answers are correct."""
    return typical(validation.mean(axis=1), validation.shape[1])


def typical(accuracy: NDArray[np.float64], images: int) -> NDArray[np.bool_]:
    """Return which accuracies (…, S) on so many images are not far below those of the other seeds.

    The scale is a student's standard deviation over seeds, never less than that of so many independent answers. It
    comes from the distances to the median student, whose own says nothing; of an even number it is the better of the
    two in the middle, since between them would be nowhere where half of the students collapse.
    """
    if accuracy.shape[-1] < 2:
        return np.ones(accuracy.shape, bool)
    middle = np.quantile(accuracy, 0.5, axis=-1, keepdims=True, method="higher")
    upper = np.quantile(accuracy, 0.75, axis=-1, keepdims=True)
    deviations = np.sort(np.abs(accuracy - middle), axis=-1)[..., 1:]
    scale = np.quantile(deviations, 0.25, axis=-1, keepdims=True) / _QUARTER
    scale = np.maximum(scale, np.sqrt(middle * (1 - middle) / images))
    return np.asarray(accuracy >= upper - (_UPPER + FAR) * scale)


def pairs(knockoff: NDArray[np.bool_], control: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the seeds that count, (S,): those whose two students both pass; all, where none do.

    Validation answers (S, M).
    """
    both = passing(knockoff) & passing(control)
    return both if both.any() else np.ones_like(both)
