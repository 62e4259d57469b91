"""Students that collapse in some seeds: how often the words are false, with audit/statistics/collapses.py.

An audit of one attack with looks at 5, 8 and 10 seeds, on 6,200 validation and as many test images. In `normal` worlds
accuracies are drawn as the model of compare.py has them, with the variance components of the reference bag. `real`
students are drawn from the LS students beside this file, with one half of their images for validation. The others are
drawn image by image, as scatter.py draws them: `accurate` ones of 99 %; `skewed` classes, of sizes 768 : 1, whose
accuracy varies by class and seed. A student that collapses loses so many points, in so many of the seeds, on one side
or on both.

The true margin is that of students that nobody would train again. UNDISTILLABLE is false where it is δ, DISTILLABLE is
false where it is zero. Beside it stands, for normal worlds, how often the words are false without the rule; there the
true margin is that of all students, collapsed or not.

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
from scipy.special import ndtri, stdtrit

from audit.analysis.protocol_flags import ERRATIC
from audit.statistics.collapses import MOST, pairs, passing, typical
from audit.statistics.compare import paired, scatter
from audit.statistics.power import Scatter, reference
from audit.statistics.sequential import HORIZON, Looks, information, levels
from audit.statistics.verdict import ALPHA, DELTA, usable

FILE = Path(__file__).with_name("collapses.json")
SEEDS = (5, 8, 10)
IMAGES = 6_200
ACCURACY = {"normal": 0.7, "skewed": 0.7, "accurate": 0.99}
IMAGE_SD, NOISE_SD, SEED_POINTS, CLASS_SD = 0.24, 0.55, 0.45, 0.1
CLASSES, SKEW = 20, 768
CHUNK = 100

Bits = NDArray[np.bool_]
Array = NDArray[np.float64]
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
    kinds = ("normal", "real", "skewed", "accurate")
    yield from (World(kind, "none", 0, 0) for kind in kinds)
    for kind, side, points, rate in product(
        kinds, ("attack", "control", "both"), (1, 2, 3, 5, 10, 20), (0.05, 0.1, 0.2)
    ):
        if kind == "normal" or (side != "both" and (points, rate) in ((3, 0.2), (10, 0.05))):
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
    """Return how much lower the accuracy of students that pass is where some collapse, with endless siblings."""
    if world.side in ("none", "both"):
        return 0.0
    rng, students = np.random.default_rng(0), _students(world.kind)
    lost = (rng.random(len(students)) < world.rate) * world.points / 100
    noise = math.sqrt(reference().interaction / 2 / IMAGES) * rng.standard_normal(len(students))
    kept = typical(students - lost + noise, IMAGES)
    healthy = typical(students + noise, IMAGES)
    return float((students - lost)[kept].mean() - students[healthy].mean())


@cache
def _students(kind: str) -> Array:
    """Return accuracies of many students of a kind, as seeds alone scatter them, (students,)."""
    rng = np.random.default_rng(0)
    if kind == "normal":
        return ACCURACY[kind] + math.sqrt(reference().seeds) * rng.standard_normal(400_000)
    if kind == "real":
        return np.tile(_pool().mean(axis=1), 200)
    drawn = [sides(World(kind, "none", 0, 0), 0.0, rng)[1][1].mean(axis=1) for _ in range(60)]
    scatter = math.sqrt(np.mean([np.var(d, ddof=1) for d in drawn]))
    return ACCURACY[kind] + scatter * rng.standard_normal(400_000)


@dataclass(frozen=True)
class Said:
    """Whether one audit said a word."""

    word: bool
    flagged: bool
    aside: float  # share of the seeds


def judged(attack: Side, control: Side, *, resists: bool) -> Said:
    """Judge an audit as audit/analysis/derive.py does; `resists`: the word is UNDISTILLABLE."""
    with_rule = []
    for s in SEEDS:
        kept = pairs(attack[0][:s], control[0][:s])
        with_rule.append(paired(attack[1][:s][kept], control[1][:s][kept]))
    attacks, worst = (float((~passing(side[0])).mean()) for side in (attack, control))
    looks = Looks(tuple(with_rule))
    if not usable(looks.last) or (max(worst, attacks) if resists else worst) > MOST:
        word = False
    elif resists:
        word = scatter(control[1][kept]) < ERRATIC and looks.upper(ALPHA) < DELTA
    else:
        word = looks.lower(ALPHA) > 0
    return Said(word, max(worst, attacks) > MOST, 1 - float(kept.mean()))


def chunk(world: World, number: int) -> dict[str, float]:
    """Simulate some audits where the true margin is δ, and as many where it is zero; return sums."""
    rng = np.random.default_rng([zlib.crc32(str(world).encode()), number])
    extra = {"attack": offset(world), "control": -offset(world)}.get(world.side, 0.0)
    if world.kind == "normal":
        lost = world.points / 100 * world.rate
        all_ = {"attack": -lost, "control": lost}.get(world.side, 0.0)
        return sums(*(normal(world, gain - e, rng) for e in (extra, all_) for gain in (DELTA, 0.0)))
    at_delta = [judged(*sides(world, DELTA - extra, rng), resists=True) for _ in range(CHUNK)]
    at_zero = [judged(*sides(world, -extra, rng), resists=False) for _ in range(CHUNK)]
    return {
        "audits": CHUNK,
        "undistillable": sum(s.word for s in at_delta),
        "distillable": sum(s.word for s in at_zero),
        "flagged": sum(s.flagged for s in at_zero),
        "aside": sum(s.aside for s in at_zero),
    }


@dataclass(frozen=True)
class Drawn:
    """Bounds of many audits with the rule and without it, (audits,); who collapsed, and the share set aside."""

    upper: Array
    lower: Array
    plain_upper: Array
    plain_lower: Array
    control: NDArray[np.bool_]  # too many controls collapsed
    attack: NDArray[np.bool_]
    aside: Array


def accuracies(world: World, gain: float, rng: np.random.Generator) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Draw the accuracies of an attack's students and of controls on validation and test images, (audits, seeds)."""
    parts, S, base = reference(), SEEDS[-1], ACCURACY["normal"]
    # A student has half of a margin's interaction. Of seed effects, half is common to both sides, as in the bag.
    common, own = rng.standard_normal((CHUNK, S)), math.sqrt(parts.seeds)

    def side(level: float, hit: bool) -> tuple[Array, Array]:
        lost = (rng.random((CHUNK, S)) < world.rate) * hit * world.points / 100
        mean = level + own * (common + rng.standard_normal((CHUNK, S))) / math.sqrt(2) - lost
        noise = [math.sqrt(parts.interaction / 2 / IMAGES) * rng.standard_normal((CHUNK, S)) for _ in range(2)]
        return mean + noise[0], mean + noise[1]

    attack = side(base + gain, world.side in ("attack", "both"))
    return attack, side(base, world.side in ("control", "both"))


def normal(world: World, gain: float, rng: np.random.Generator) -> Drawn:
    """Draw audits by their accuracies, as an analysis of variance has them."""
    parts = reference()
    attack, control = accuracies(world, gain, rng)
    shared = math.sqrt(parts.images / IMAGES) * rng.standard_normal((CHUNK, 1))
    margins = attack[1] - control[1] + shared
    bounds: dict[bool, tuple[Array, Array]] = {}
    for ruled in (True, False):
        kept = [_kept(attack[0][:, :s], control[0][:, :s], ruled) for s in SEEDS]
        upper, lower = _bounds(parts, margins, kept)
        bounds[ruled] = upper, lower
    controls, attacks = (typical(one[0], IMAGES).mean(axis=1) < 1 - MOST for one in (control, attack))
    aside = 1 - _kept(attack[0], control[0], True).mean(axis=1)
    return Drawn(*bounds[True], *bounds[False], controls, attacks, aside)


def _kept(attack: Array, control: Array, ruled: bool) -> NDArray[np.bool_]:
    if not ruled:
        return np.ones(attack.shape, bool)
    both = typical(attack, IMAGES) & typical(control, IMAGES)
    return np.where(both.any(axis=1, keepdims=True), both, True)


def _bounds(parts: Scatter, margins: Array, kept: list[NDArray[np.bool_]]) -> Iterator[Array]:
    """Return the tightest upper and lower bound of all looks, (audits,), with the half width of `Margin`."""
    counts = np.stack([k.sum(axis=1) for k in kept], axis=1)  # (audits, looks)
    least, shared = parts.interaction / IMAGES, parts.images / IMAGES
    level = np.array([_levels(tuple(row)) for row in counts.tolist()])
    for sign in (1, -1):
        found = []
        for number, (s, keep) in enumerate(zip(SEEDS, kept, strict=True)):
            n, rows = counts[:, number], margins[:, :s]
            mean = (rows * keep).sum(axis=1) / n
            squares = (((rows - mean[:, None]) ** 2) * keep).sum(axis=1)
            variance = np.where(n > 1, squares / np.maximum(n - 1, 1) / n, np.inf)
            tail = np.maximum(level[:, number], 1e-12)
            t_A, t_B = stdtrit(np.maximum(n - 1, 1), tail), ndtri(tail)
            half = np.sqrt(np.maximum(t_A**2 * variance, t_B**2 * least / n) + t_B**2 * shared)
            found.append(np.where(level[:, number] > 0, mean + sign * half, sign * np.inf))
        yield np.min(found, axis=0) if sign == 1 else np.max(found, axis=0)


@cache
def _levels(counts: tuple[int, ...]) -> tuple[float, ...]:
    parts = reference()
    times = [information(parts.margin(n, IMAGES), HORIZON) if n > 1 else 0.0 for n in counts]
    return levels(tuple(np.maximum.accumulate(times).tolist()), ALPHA)


def sums(at_delta: Drawn, at_zero: Drawn, all_at_delta: Drawn, all_at_zero: Drawn) -> dict[str, float]:
    """Count the words of audits where the true margin is δ or zero, for students that pass, and for all."""
    capped = at_delta.control | at_delta.attack
    return {
        "audits": CHUNK,
        "undistillable": int(((at_delta.upper < DELTA) & ~capped).sum()),
        "distillable": int(((at_zero.lower > 0) & ~at_zero.control).sum()),
        "plain_undistillable": int((all_at_delta.plain_upper < DELTA).sum()),
        "plain_distillable": int((all_at_zero.plain_lower > 0).sum()),
        "flagged": int((at_zero.control | at_zero.attack).sum()),
        "aside": float(at_zero.aside.sum()),
    }


def table(found: dict[str, dict[str, float]]) -> Iterator[str]:
    """Write the results in per cent."""
    yield "| world | false U: rule / without | false D: rule / without | flagged | seeds set aside |"
    yield "|---|---|---|---|---|"
    for name, counts in found.items():
        share = {key: 100 * value / counts["audits"] for key, value in counts.items()}
        words = (_both(share, word) for word in ("undistillable", "distillable"))
        yield f"| {name} | {' | '.join(words)} | {share['flagged']:.1f} | {share['aside']:.1f} |"


def _both(share: dict[str, float], word: str) -> str:
    before = f" / {share[f'plain_{word}']:.1f}" if f"plain_{word}" in share else ""
    return f"{share[word]:.1f}{before}"


def main() -> None:
    """Simulate what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=1_000)
    audits = parser.parse_args().audits
    found: dict[str, dict[str, float]] = json.loads(FILE.read_text()) if FILE.is_file() else {}
    for number, world in product(range(-(-audits // CHUNK)), worlds()):
        so_far = found.setdefault(str(world), {})
        if so_far.get("audits", 0) <= number * CHUNK:
            more = chunk(world, number)
            found[str(world)] = {key: round(so_far.get(key, 0) + value, 3) for key, value in more.items()}
            FILE.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
