"""Simulate audits whose true margins are known, and count how often the interval and the verdict are right.

A model answers image i at seed s correctly if
    mu + difficulty_i + image effect_i + seed effect_s + noise_si > 0,
all normal: difficulty (sd 1) common to all models, the other effects the model's own. Its true accuracy over seeds and
images is Phi(mu / total sd), exactly. An audit holds one control, eight attacks as accurate as it, and one better.
Tables: coverage of the two-sided 95 % interval, and the share of audits with a false DISTILLABLE (an attack's
Holm-adjusted one-sided p below the level). The worst rows are simulated again, to undo the luck that made them worst.

    python benchmarks/coverage.py --audits 200
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from audit.compare import Margin, paired

ATTACKS = 8
LEVELS = (0.05, 0.025)
FEWEST_DISCORDANT = 30
NOISE_SD = 0.2
WORST = 4
AGAIN = 10
HEADER = (
    "seeds images accuracy  seed  image | discordant | coverage          better | satt.  seeds-t "
    "| DISTILLABLE at 5 %     at 2.5 %         | half width"
)


@dataclass(frozen=True, kw_only=True)
class Design:
    """Hold what an audit looks like and how its students scatter."""

    seeds: int
    images: int
    accuracy: float
    seed_points: float
    """Standard deviation of a student's accuracy over seeds, in points."""
    image_sd: float
    """Standard deviation of a model's own image effect, where that of the common difficulty is 1."""

    @property
    def gain(self) -> float:
        """Give the true margin of the better attack."""
        return min(0.02, (1 - self.accuracy) / 2)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Hold what a simulation of one design found; shares, with their Monte-Carlo errors."""

    design: Design
    discordant: float
    coverage: float
    coverage_error: float
    better: float
    satterthwaite: float
    seeds_only: float
    false: tuple[float, ...]
    false_error: tuple[float, ...]
    half_width: float

    def __str__(self) -> str:
        d = self.design
        pairs = zip(self.false, self.false_error, strict=True)
        false = "   ".join(f"{100 * share:5.2f} ± {100 * error:4.2f} %" for share, error in pairs)
        return (
            f"{d.seeds:5} {d.images:6} {d.accuracy:8.2f} {d.seed_points:5.1f} {d.image_sd:6.1f} "
            f"| {self.discordant:10.0f} "
            f"| {100 * self.coverage:5.1f} ± {100 * self.coverage_error:3.1f} %  {100 * self.better:6.1f} % "
            f"| {100 * self.satterthwaite:5.1f}  {100 * self.seeds_only:6.1f} | {false} "
            f"| {100 * self.half_width:6.2f}"
        )


def designs() -> Iterator[Design]:
    """List the designs of the table."""
    tests = ((500, 0.5), (500, 0.8), (2000, 0.8), (2000, 0.97), (6200, 0.6), (6200, 0.97))
    for seeds, (images, accuracy), points, image_sd in product((3, 5, 10, 20), tests, (0.0, 0.3, 1.0), (0.0, 0.4, 1.5)):
        yield Design(seeds=seeds, images=images, accuracy=accuracy, seed_points=points, image_sd=image_sd)


def students(design: Design, gains: list[float], rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """Give each model's correctness (seeds, images), its true accuracy above the design's by its gain."""
    shape = design.seeds, design.images
    slope = math.exp(-(float(ndtri(design.accuracy)) ** 2) / 2) / math.sqrt(2 * math.pi)
    fixed = math.hypot(1.0, design.image_sd, NOISE_SD)
    seed_sd = design.seed_points / 100 / slope * fixed
    total = math.hypot(fixed, seed_sd)
    difficulty = rng.standard_normal(design.images, dtype=np.float32)
    for gain in gains:
        image = difficulty + np.float32(design.image_sd) * rng.standard_normal(design.images, dtype=np.float32)
        latent = np.float32(NOISE_SD) * rng.standard_normal(shape, dtype=np.float32)
        latent += image + np.float32(float(ndtri(design.accuracy + gain)) * total)
        latent += (seed_sd * rng.standard_normal((design.seeds, 1))).astype(np.float32)
        yield latent > 0


def audit(design: Design, rng: np.random.Generator) -> list[Margin]:
    """Compare the eight null attacks and then the better one with their control."""
    control, *knockoffs = students(design, [0.0] * (1 + ATTACKS) + [design.gain], rng)
    return [paired(knockoff, control) for knockoff in knockoffs]


def half_width(m: Margin) -> float:
    """Give half the 95 % interval of the audit."""
    return m.upper(0.975) - m.mean


def half_satterthwaite(m: Margin) -> float:
    """Give what one t with Satterthwaite's degrees of freedom would give."""
    return m.se * float(-stdtrit(m.df, 0.025)) if m.df else 0.0


def half_seeds_only(m: Margin) -> float:
    """Give what the usual t-test over seeds would give."""
    return math.sqrt(m.between_seeds / (m.seeds * m.images)) * float(-stdtrit(m.seeds - 1, 0.025))


def simulate(design: Design, audits: int, seed: int) -> Row | None:
    """Run many audits of a design; nothing where too few discordant images are expected."""
    rng = np.random.default_rng(seed)
    if np.mean([m.discordant for _ in range(5) for m in audit(design, rng)[:ATTACKS]]) < FEWEST_DISCORDANT:
        return None
    runs = [audit(design, rng) for _ in range(audits)]
    nulls = [run[:ATTACKS] for run in runs]
    covered = _covers(half_width, nulls).mean(axis=1)
    # The smallest Holm-adjusted p is below the level just where some lower bound at level / attacks is above zero.
    false = [float(np.mean([any(m.lower(1 - a / ATTACKS) > 0 for m in run) for run in nulls])) for a in LEVELS]
    return Row(
        design=design,
        discordant=float(np.mean([m.discordant for run in nulls for m in run])),
        coverage=float(covered.mean()),
        coverage_error=float(covered.std() / math.sqrt(audits)),
        better=float(_covers(half_width, [run[ATTACKS:] for run in runs], design.gain).mean()),
        satterthwaite=float(_covers(half_satterthwaite, nulls).mean()),
        seeds_only=float(_covers(half_seeds_only, nulls).mean()),
        false=tuple(false),
        false_error=tuple(math.sqrt(f * (1 - f) / audits) for f in false),
        half_width=float(np.mean([half_width(m) for run in nulls for m in run])),
    )


def _covers(half: Callable[[Margin], float], runs: list[list[Margin]], truth: float = 0.0) -> NDArray[np.float64]:
    return np.array([[abs(m.mean - truth) <= half(m) for m in run] for run in runs], dtype=np.float64)


def summary(rows: list[Row]) -> str:
    """Tell the mean and the extremes of the columns for each number of seeds."""
    lines = ["seeds | coverage lowest mean highest | satt. lowest | seeds-t lowest | DISTILLABLE at 5 % mean highest"]
    for seeds in sorted({row.design.seeds for row in rows}):
        some = [row for row in rows if row.design.seeds == seeds]
        c, f = [100 * row.coverage for row in some], [100 * row.false[0] for row in some]
        satt, t = (100 * min(row.satterthwaite for row in some), 100 * min(row.seeds_only for row in some))
        lines.append(
            f"{seeds:5} | {min(c):15.1f} {np.mean(c):4.1f} {max(c):7.1f} | {satt:12.1f} | {t:14.1f} "
            f"| {np.mean(f):23.2f} {max(f):7.2f}"
        )
    return "\n".join(lines)


def worst(rows: list[Row]) -> list[Design]:
    """Pick the designs nearest to breaking one of the limits."""
    many = [row for row in rows if row.design.seeds >= 10]
    picked = sorted(rows, key=lambda row: row.coverage)[:WORST]
    picked += sorted(many, key=lambda row: -row.coverage)[:WORST]
    picked += sorted(rows, key=lambda row: row.better)[:WORST]
    for i in range(len(LEVELS)):
        picked += sorted(rows, key=lambda row: -row.false[i])[:WORST]
    return list(dict.fromkeys(row.design for row in picked))


def table(chosen: list[Design], audits: int, seed: int) -> list[Row]:
    """Simulate designs, printing each as it is done."""
    print(HEADER)
    rows = []
    for i, design in enumerate(chosen):
        row = simulate(design, audits, seed + i)
        if row is not None:
            rows.append(row)
            print(row, flush=True)
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Simulate audits and count how often the interval is right.")
    parser.add_argument("--audits", type=int, default=100, help="simulated audits for each design")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    start = time.monotonic()
    rows = table(list(designs()), asked.audits, asked.seed)
    print(f"\n{summary(rows)}\n\nThe worst again, fresh, with {AGAIN * asked.audits} audits each")
    table(worst(rows), AGAIN * asked.audits, asked.seed + 1_000_000)
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
