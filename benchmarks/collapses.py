"""Students that collapse in some seeds: how often the words are false, with audit/statistics/collapses.py.

An audit of one attack with looks at 5, 8 and 10 seeds, on 6,200 validation and as many test images. In `probit` worlds
students are drawn as scatter.py draws them, with the variance components of the reference bag: students of 70 %
accuracy; `accurate` ones of 99 %; `skewed` classes, of sizes 768 : 1, whose accuracy varies by class and seed. `real`
students are drawn from the LS students beside this file, with one half of their images for validation. A student that
collapses loses so many points, in so many of the seeds, on one side or on both.

The true margin is that of students that nobody would train again. UNDISTILLABLE is false where it is δ, DISTILLABLE is
false where it is zero. Beside it stands what the audit said without the rule, with collapsed students in both means.

    python benchmarks/collapses.py [--audits 1000]     resumable; the results are kept beside this file
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from null import LSPool
from numpy.typing import NDArray
from scatter import _noise as noise
from scipy.special import ndtr, ndtri

from audit.analysis.protocol_flags import ERRATIC
from audit.statistics.collapses import FAR, MOST, pairs, passing
from audit.statistics.compare import paired, scatter
from audit.statistics.sequential import Looks
from audit.statistics.verdict import ALPHA, DELTA, usable

FILE = Path(__file__).with_name("collapses.json")
SEEDS = (5, 8, 10)
IMAGES = 6_200
ACCURACY = {"probit": 0.7, "skewed": 0.7, "accurate": 0.99}
IMAGE_SD, NOISE_SD, SEED_POINTS, CLASS_SD = 0.24, 0.55, 0.45, 0.1
CLASSES, SKEW = 20, 768
CHUNK = 100

Bits = NDArray[np.bool_]
Side = tuple[Bits, Bits]  # what students get right of the validation and of the test images, (S, M) and (S, N)


@dataclass(frozen=True)
class World:
    """Which students collapse, by how many points and how often."""

    kind: str
    side: str  # "attack", "control", "both" or "none"
    points: float
    rate: float

    def __str__(self) -> str:
        return f"{self.kind}, {self.side}, {self.points:g} points, {self.rate:g}"


def worlds() -> Iterator[World]:
    """List the worlds: healthy ones, then every side, size and rate."""
    kinds = ("probit", "real", "skewed", "accurate")
    yield from (World(kind, "none", 0, 0) for kind in kinds)
    for kind, side, points, rate in product(
        kinds, ("attack", "control", "both"), (1, 2, 3, 5, 10, 20), (0.05, 0.1, 0.2)
    ):
        if kind == "probit" or (points in (2, 5, 10) and rate in (0.05, 0.2)):
            yield World(kind, side, points, rate)


def sides(world: World, gain: float, rng: np.random.Generator) -> tuple[Side, Side]:
    """Draw an attack's students and their controls; `gain`: the attack's true margin, where nobody collapses."""
    return _real(world, gain, rng) if world.kind == "real" else _probit(world, gain, rng)


@cache
def _pool() -> Bits:
    return LSPool.load().correct


def _real(world: World, gain: float, rng: np.random.Generator) -> tuple[Side, Side]:
    """Draw real students; controls forget a share of what they know, so that the attack gains."""
    pool, S = _pool(), SEEDS[-1]
    chosen = pool[rng.permutation(len(pool))[: 2 * S]]
    half = rng.permutation(pool.shape[1])
    split = half[: len(half) // 2], half[len(half) // 2 :]

    def side(students: Bits, hit: bool, loss: float) -> Side:
        lost = loss + (rng.random((S, 1)) < world.rate) * hit * world.points / 100
        kept = rng.random(students.shape) >= lost / students.mean(axis=1, keepdims=True)
        return students[:, split[0]] & kept[:, split[0]], students[:, split[1]] & kept[:, split[1]]

    return (
        side(chosen[:S], world.side in ("attack", "both"), 0.0),
        side(chosen[S:], world.side in ("control", "both"), gain),
    )


def _probit(world: World, gain: float, rng: np.random.Generator) -> tuple[Side, Side]:
    """Draw students as a probit model has them; seeds of both sides have half of their seed effect in common."""
    S, accuracy, spread = SEEDS[-1], ACCURACY[world.kind], _spread(world.kind)
    difficulty = [noise(1, IMAGES, rng)[0] for _ in range(2)]
    common = math.sqrt(0.5) * rng.standard_normal((S, 1))
    of = _classes() if world.kind == "skewed" else None
    classes = rng.standard_normal(CLASSES)

    def side(accuracy: float, hit: bool) -> Side:
        level = accuracy - (rng.random((S, 1)) < world.rate) * hit * world.points / 100
        seed = spread.seed * (common + math.sqrt(0.5) * rng.standard_normal((S, 1)))
        turn = CLASS_SD * rng.standard_normal((S, CLASSES))

        def answers(difficulty: NDArray[np.float32]) -> Bits:
            own = IMAGE_SD * noise(1, IMAGES, rng)[0]
            found = difficulty + own + NOISE_SD * noise(S, IMAGES, rng) + ndtri(level) * spread.total + seed
            return np.asarray(found > 0 if of is None else found + (classes + turn)[:, of] > 0)

        return answers(difficulty[0]), answers(difficulty[1])

    return side(accuracy + gain, world.side in ("attack", "both")), side(accuracy, world.side in ("control", "both"))


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the latent scale: of the seed effect, and of all effects together."""

    seed: float
    total: float


@cache
def _spread(kind: str) -> Spread:
    classes = math.hypot(1.0, CLASS_SD) if kind == "skewed" else 0.0
    rest = math.hypot(1.0, IMAGE_SD, NOISE_SD, classes)
    slope = math.exp(-(float(ndtri(ACCURACY[kind])) ** 2) / 2) / math.sqrt(2 * math.pi)
    points = SEED_POINTS if ACCURACY[kind] < 0.9 else SEED_POINTS / 5
    seed = points / 100 / slope * rest
    return Spread(seed, math.hypot(rest, seed))


@cache
def _classes() -> NDArray[np.int64]:
    """Return the class of every image; class sizes fall geometrically from 768 to 1."""
    shares = np.geomspace(SKEW, 1, CLASSES)
    return np.searchsorted(np.cumsum(shares / shares.sum()), (np.arange(IMAGES) + 0.5) / IMAGES)


@cache
def offset(world: World) -> float:
    """Return by how much the accuracy of students that pass is above or below that of students that never collapse."""
    if world.side in ("none", "both"):
        return 0.0
    rng, n = np.random.default_rng(0), 400_000
    base = float(_pool().mean()) if world.kind == "real" else ACCURACY[world.kind]
    images = IMAGES // 2 if world.kind == "real" else IMAGES
    own = rng.standard_normal(n) * _sd_of_students(world.kind)
    accuracy = np.clip(base + own - (rng.random(n) < world.rate) * world.points / 100, 0, 1)
    seen = accuracy + rng.standard_normal(n) * math.sqrt(0.4 * base * (1 - base) / images)  # the rest is the images'
    middle, upper = np.median(seen), np.quantile(seen, 0.75)
    scale = max(float(np.quantile(np.abs(seen - middle), 0.25)) / 0.31864, math.sqrt(middle * (1 - middle) / images))
    kept = seen >= upper - (0.67449 + FAR) * scale
    return float(accuracy[kept].mean() - (base + own[kept].mean()))


@cache
def _sd_of_students(kind: str) -> float:
    if kind == "real":
        return float(np.std(_pool().mean(axis=1)))
    spread = _spread(kind)
    level = float(ndtri(ACCURACY[kind]))
    return float(ndtr(level + spread.seed / spread.total) - ndtr(level - spread.seed / spread.total)) / 2


@dataclass(frozen=True)
class Said:
    """What one audit said, with the rule and without it."""

    distillable: bool
    undistillable: bool
    plain_distillable: bool
    plain_undistillable: bool
    flagged: bool
    aside: float  # share of the seeds


def judged(attack: Side, control: Side) -> Said:
    """Judge an audit as audit/analysis/derive.py does."""
    with_rule, without = [], []
    for s in SEEDS:
        kept = pairs(attack[0][:s], control[0][:s])
        with_rule.append(paired(attack[1][:s][kept], control[1][:s][kept]))
        without.append(paired(attack[1][:s], control[1][:s]))
    attacks, worst = (float((~passing(side[0])).mean()) for side in (attack, control))
    erratic = scatter(control[1][kept]) >= ERRATIC
    new, old = Looks(tuple(with_rule)), Looks(tuple(without))
    able, was = usable(new.last), usable(old.last)
    return Said(
        distillable=able and worst <= MOST and new.lower(ALPHA) > 0,
        undistillable=able and max(worst, attacks) <= MOST and not erratic and new.upper(ALPHA) < DELTA,
        plain_distillable=was and old.lower(ALPHA) > 0,
        plain_undistillable=was and old.upper(ALPHA) < DELTA and scatter(control[1]) < ERRATIC,
        flagged=max(worst, attacks) > MOST,
        aside=1 - float(kept.mean()),
    )


def chunk(world: World, number: int) -> dict[str, float]:
    """Simulate some audits where the true margin is δ, and as many where it is zero; return sums."""
    rng = np.random.default_rng([zlib.crc32(str(world).encode()), number])
    extra = {"attack": offset(world), "control": -offset(world)}.get(world.side, 0.0)
    at_delta = [judged(*sides(world, DELTA - extra, rng)) for _ in range(CHUNK)]
    at_zero = [judged(*sides(world, -extra, rng)) for _ in range(CHUNK)]
    return {
        "audits": CHUNK,
        "undistillable": sum(s.undistillable for s in at_delta),
        "distillable": sum(s.distillable for s in at_zero),
        "plain_undistillable": sum(s.plain_undistillable for s in at_delta),
        "plain_distillable": sum(s.plain_distillable for s in at_zero),
        "flagged": sum(s.flagged for s in at_zero),
        "aside": sum(s.aside for s in at_zero),
    }


def table(found: dict[str, dict[str, float]]) -> Iterator[str]:
    """Write the results in per cent."""
    yield "| world | false U: rule / without | false D: rule / without | flagged | seeds set aside |"
    yield "|---|---|---|---|---|"
    for name, sums in found.items():
        share = {key: 100 * value / sums["audits"] for key, value in sums.items()}
        yield (
            f"| {name} | {share['undistillable']:.1f} / {share['plain_undistillable']:.1f} "
            f"| {share['distillable']:.1f} / {share['plain_distillable']:.1f} "
            f"| {share['flagged']:.1f} | {share['aside']:.1f} |"
        )


def main() -> None:
    """Simulate what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=1_000)
    audits = parser.parse_args().audits
    found: dict[str, dict[str, float]] = json.loads(FILE.read_text()) if FILE.is_file() else {}
    for number, world in product(range(-(-audits // CHUNK)), worlds()):
        sums = found.setdefault(str(world), {})
        if sums.get("audits", 0) <= number * CHUNK:
            more = chunk(world, number)
            found[str(world)] = {key: round(sums.get(key, 0) + value, 3) for key, value in more.items()}
            FILE.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
