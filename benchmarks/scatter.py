"""Students whose true accuracy is known exactly, scattered over seeds and images as a design says.

A model answers image i at seed s correctly if
    mu + difficulty_i + image effect_i + seed effect_s + noise_si > 0,
all normal: difficulty (sd 1) common to all models, the other effects the model's own. Its true accuracy over seeds and
images is Phi(mu / total sd).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

ATTACKS = 8

Correct = NDArray[np.bool_]
Latent = NDArray[np.float32]

# Noise is one of so many equally likely quantiles: six times as fast as normal deviates, and true to 1e-5 of accuracy.
_QUANTILES = ndtri((np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Design:
    """Hold what an audit looks like and how its students scatter."""

    seeds: int
    images: int
    accuracy: float
    seed_points: float
    """Standard deviation of a student's accuracy over seeds, in points, to first order."""
    image_sd: float
    """Standard deviation of a model's own image effect, where that of the common difficulty is 1."""
    noise_sd: float
    """Standard deviation of the interaction of seed and image."""
    control_seeds: int
    control_share: float = 1.0
    """Standard deviation of the control's seed effect, where that of an attack's is 1."""
    shared: float = 0.0
    """Correlation of the seed effects of an attack's and the control's student of the same seed."""

    @property
    def fewest(self) -> int:
        """Give the number of seeds that both sides have."""
        return min(self.seeds, self.control_seeds)

    @property
    def seed_sd(self) -> float:
        """Give the standard deviation of the seed effect."""
        slope = math.exp(-(float(ndtri(self.accuracy)) ** 2) / 2) / math.sqrt(2 * math.pi)
        return self.seed_points / 100 / slope * math.hypot(1.0, self.image_sd, self.noise_sd)

    def threshold(self, accuracy: float, share: float = 1.0) -> float:
        """Give the mu of a model of an accuracy."""
        total = math.hypot(1.0, self.image_sd, self.noise_sd, share * self.seed_sd)
        return float(ndtri(accuracy)) * total


@dataclass(frozen=True)
class Students:
    """Hold eight equally accurate attacks' students and the control's, whose accuracy may be set afterwards."""

    design: Design
    knockoffs: tuple[Correct, ...]  # (seeds, images) each
    latent: Latent  # of the control, (control seeds, images)

    def control(self, gain: float = 0.0) -> Correct:
        """Give the control's students, if every attack's true margin is `gain`."""
        d = self.design
        return self.latent > np.float32(-d.threshold(d.accuracy - gain, d.control_share))


def draw(design: Design, rng: np.random.Generator) -> Students:
    """Draw the students of one audit."""
    difficulty = rng.standard_normal(design.images, dtype=np.float32)
    most = max(design.seeds, design.control_seeds)
    common = math.sqrt(design.shared) * rng.standard_normal((most, 1))

    def latent(seeds: int, share: float) -> Latent:
        image = difficulty + np.float32(design.image_sd) * rng.standard_normal(design.images, dtype=np.float32)
        seed = common[:seeds] + math.sqrt(1 - design.shared) * rng.standard_normal((seeds, 1))
        found = _noise(seeds, design.images, rng)
        found *= np.float32(design.noise_sd)
        found += image
        found += (share * design.seed_sd * seed).astype(np.float32)
        return found

    level = np.float32(-design.threshold(design.accuracy))
    knockoffs = tuple(latent(design.seeds, 1.0) > level for _ in range(ATTACKS))
    return Students(design, knockoffs, latent(design.control_seeds, design.control_share))


def _noise(seeds: int, images: int, rng: np.random.Generator) -> Latent:
    words = np.asarray(rng.bit_generator.random_raw(-(-seeds * images // 4)))
    found: Latent = np.take(_QUANTILES, words.view(np.uint16)[: seeds * images], mode="clip")
    return found.reshape(seeds, images)
