"""How much an auditor measures of a teacher, known before it is asked: without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CMI_ENTRIES = 2_000_000  # log-probabilities kept of each pool; beyond that a stratified sample of its images
REPEATS = 0.995  # of the labels: a label-only attack is then its own control


def measurable(counts: Sequence[int] | NDArray[np.int64]) -> bool:
    """Whether CMI and Γ can be estimated of images, by their number in each class: two classes with two images."""
    return sum(int(count) > 1 for count in counts) > 1
