"""Looks against a fixed design: error of either word, and students trained, in simulated audits.

An audit compares eight attacks with one LS student. Its margins are drawn as compare.py models them: a seed effect, an
image effect that all seeds share, an interaction. The fixed design has the seeds that give 80 % power against a margin
of δ at 5 %, at most 20, and looks once; the sequential one starts with five and follows audit/statistics/sequential.py
until verdict.undecided names no attack, or 20 seeds are there.

    python benchmarks/sequential.py [--audits 400]
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from judging import at_once, look_by_look
from numpy.typing import NDArray
from scipy.special import stdtrit

from audit.statistics.compare import Margin
from audit.statistics.power import POWER
from audit.statistics.sequential import HORIZON
from audit.statistics.verdict import ALPHA, DELTA

ATTACKS, IMAGES, FIRST = 8, 6_200, 5
DISAGREE = 0.15  # share of images on which two students of one seed differ
WORDS = "DISTILLABLE", "UNDISTILLABLE"
TRUTHS = {
    "no attack gains": (0.0,) * ATTACKS,
    "all lose a point": (-0.01,) * ATTACKS,
    "one gains δ, the others lose a point": (DELTA, *(-0.01,) * (ATTACKS - 1)),
    "one gains a point": (0.01, *(0.0,) * (ATTACKS - 1)),
    "all gain three points": (0.03,) * ATTACKS,
}


@dataclass(frozen=True)
class Noise:
    """Standard deviations in points: of the seed effect, and of the mean of the image effects."""

    seed: float
    image: float

    @property
    def residual(self) -> float:
        """Variance of the interaction, per score."""
        return DISAGREE - IMAGES * (self.image / 100) ** 2

    def variance(self, seeds: int) -> float:
        """Return the true variance of a margin."""
        own = (self.seed / 100) ** 2 + self.residual / IMAGES
        return own / seeds + (self.image / 100) ** 2

    @property
    def fixed(self) -> int:
        """Return the seeds of the fixed design."""
        for seeds in range(3, HORIZON):
            needed = -float(stdtrit(seeds - 1, ALPHA)) - float(stdtrit(seeds - 1, 1 - POWER))
            if needed * math.sqrt(self.variance(seeds)) <= DELTA:
                return seeds
        return HORIZON


def margins(noise: Noise, truths: tuple[float, ...], rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Draw what every seed up to the horizon gives, for each attack, (HORIZON,)."""
    sd = math.sqrt((noise.seed / 100) ** 2 + noise.residual / IMAGES)
    control = rng.normal(0, sd, HORIZON)  # the control's share of the noise is common to all attacks
    share = math.sqrt(0.5)
    shared_images = rng.normal(0, noise.image / 100)
    return [
        truth
        + share * (control + rng.normal(0, sd, HORIZON))
        + share * (shared_images + rng.normal(0, noise.image / 100))
        for truth in truths
    ]


def margin(rows: NDArray[np.float64], noise: Noise, rng: np.random.Generator) -> Margin:
    """Return the margin of some seeds, its mean squares drawn as they are distributed."""
    seeds = len(rows)
    image = IMAGES * (noise.image / 100) ** 2
    between = (noise.residual + seeds * image) * rng.chisquare(IMAGES - 1) / (IMAGES - 1)
    df = (seeds - 1) * (IMAGES - 1)
    return Margin(
        mean=float(rows.mean()),
        seeds=seeds,
        images=IMAGES,
        discordant=DISAGREE * IMAGES,
        between_seeds=IMAGES * float(rows.var(ddof=1)),
        between_images=between,
        residual=noise.residual * rng.chisquare(df) / df,
    )


def fixed(rows: list[NDArray[np.float64]], noise: Noise, rng: np.random.Generator) -> tuple[str, int]:
    """Return the word of the fixed design, and how many students it trained."""
    seeds = noise.fixed
    return at_once([margin(r[:seeds], noise, rng) for r in rows]), seeds * (1 + ATTACKS)


def sequential(rows: list[NDArray[np.float64]], noise: Noise, rng: np.random.Generator) -> tuple[str, int]:
    """Return the word of the sequential design, and how many students it trained."""
    word, taken = look_by_look(len(rows), lambda i, seeds: margin(rows[i][:seeds], noise, rng), FIRST)
    return word, sum(taken) + max(taken)


def noises() -> Iterator[Noise]:
    for seed, image in product((0.2, 0.5, 0.8), (0.05, 0.15, 0.3)):
        yield Noise(seed, image)


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate audits with looks, and with a fixed number of seeds.")
    parser.add_argument("--audits", type=int, default=400)
    audits = parser.parse_args().audits
    print("| truth | seed sd | image sd | fixed seeds | fixed D / U, % | looks D / U, % | students saved, % |")
    print("|---|---|---|---|---|---|---|")
    saved = []
    for (truth, values), noise in product(TRUTHS.items(), noises()):
        rng = np.random.default_rng(0)
        runs = [
            (fixed(rows, noise, rng), sequential(rows, noise, rng))
            for rows in (margins(noise, values, rng) for _ in range(audits))
        ]
        shares = [" / ".join(f"{100 * np.mean([run[k][0] == w for run in runs]):.1f}" for w in WORDS) for k in (0, 1)]
        ratio = 1 - np.mean([run[1][1] for run in runs]) / np.mean([run[0][1] for run in runs])
        saved.append(ratio)
        cells = (truth, noise.seed, noise.image, noise.fixed, *shares, f"{100 * ratio:.0f}")
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print(f"\nSaved: {100 * np.mean(saved):.0f} % on average, {100 * min(saved):.0f} % in the worst row.")


if __name__ == "__main__":
    main()
