"""Students that are drawn, of known accuracy."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri


def students(
    rng: np.random.Generator, seeds: int, images: int, accuracies: list[float], *, seed_sd: float, image_sd: float
) -> list[NDArray[np.bool_]]:
    """Draw correct answers of models of known accuracy, with common difficulties and effects of their own."""
    noise_sd = 0.3
    total = math.sqrt(1 + seed_sd**2 + image_sd**2 + noise_sd**2)
    difficulty = rng.standard_normal(images)
    return [
        float(ndtri(a)) * total
        + difficulty
        + image_sd * rng.standard_normal(images)
        + seed_sd * rng.standard_normal((seeds, 1))
        + noise_sd * rng.standard_normal((seeds, images))
        > 0
        for a in accuracies
    ]
