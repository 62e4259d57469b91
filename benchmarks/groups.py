"""Test images that come in groups, with and without --groups: coverage, and false words, in simulated audits.

Images of a group share their difficulty, both models' image effects, and half of the interaction's variance; else
students are as in scatter.py, and there are four attacks. Audits look at 5, 8, 13 and 20 seeds, by the rules of
verdict.py, without flags. Of each kind of groups: the share of two-sided 95 % intervals that hold the true margin, over
a fixed number of seeds; DISTILLABLE where no attack gains; UNDISTILLABLE where one attack gains just δ and is the only.

The same of real students, the LS students of null.py and their twins of another smoothing: audits of five seeds on
images that are drawn from the shipped ones, with replacement, and are there as often as a group is large; the truth is
the margin over all seeds and images.

    python benchmarks/groups.py [--audits 1000] [--out benchmarks/groups.json]

It goes on where it stopped: the file holds the counts of the audits so far.
"""

import argparse
import json
import math
from collections import Counter
from functools import partial
from pathlib import Path

import null
import numpy as np
from judging import half_width, look_by_look, word
from numpy.typing import NDArray
from scatter import Correct, Design, _noise

from audit.statistics.compare import Margin, paired
from audit.statistics.sequential import HORIZON, once
from audit.statistics.verdict import DELTA
from teachers.files import write_whole
from teachers.proportions import wilson

IMAGES, ATTACKS, FIRST, FIXED = 6_200, 4, 5, (5, 10, 20)
DESIGN = Design(
    seeds=HORIZON, images=IMAGES, accuracy=0.75, seed_points=0.4, image_sd=0.4, noise_sd=0.5, control_seeds=HORIZON
)
SIZES = {"1": (1,), "2": (2,), "5": (5,), "20": (20,), "1 to 40": (1, 1, 1, 2, 3, 5, 10, 20, 40)}
PART = 20  # audits between two writings of the file


def groups_of(sizes: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the group of each image, (IMAGES,)."""
    return np.repeat(np.arange(IMAGES), np.resize(sizes, IMAGES))[:IMAGES]


def draw(groups: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Draw what each model makes of the images before the threshold, (HORIZON, IMAGES); the control is the last."""
    G = int(groups.max()) + 1
    difficulty = rng.standard_normal(G)
    models = []
    for _ in range(ATTACKS + 1):
        shared = difficulty + DESIGN.image_sd * rng.standard_normal(G)
        noise = DESIGN.noise_sd * math.sqrt(0.5)
        latent = (shared + noise * _noise(HORIZON, G, rng)).astype(np.float32)[:, groups]
        latent += np.float32(noise) * _noise(HORIZON, IMAGES, rng)
        latent += (DESIGN.seed_sd * rng.standard_normal((HORIZON, 1))).astype(np.float32)
        models.append(latent)
    return models


def audit(groups: NDArray[np.int64], rng: np.random.Generator) -> Counter[str]:
    """Return what one audit adds to the counts, with groups and without."""
    *attacks, control = draw(groups, rng)
    level = np.float32(-DESIGN.threshold(DESIGN.accuracy))
    knockoffs = [latent > level for latent in attacks]
    even, lower = control > level, control > np.float32(-DESIGN.threshold(DESIGN.accuracy - DELTA))
    found: Counter[str] = Counter(audits=1)
    for name, given in (("with", groups), ("without", None)):
        over = partial(_margin, knockoffs, given)
        for seeds in FIXED:
            low, high = over(lower, 0, seeds).interval()
            found[f"{name}: covered, {seeds} seeds"] += low <= DELTA <= high
            found[f"{name}: U, {seeds} seeds"] += word([once(over(lower, 0, seeds))]) == "UNDISTILLABLE"
        said, _ = look_by_look(ATTACKS, partial(over, even), FIRST)
        found[f"{name}: D"] += said == "DISTILLABLE"
        said, _ = look_by_look(1, partial(over, lower), FIRST)
        found[f"{name}: U"] += said == "UNDISTILLABLE"
        found[f"{name}: half width, points"] += round(100 * half_width(over(even, 0, 10), 0.025), 4)  # type: ignore[assignment]
    return found


def real(sizes: tuple[int, ...], draws: int) -> Counter[str]:
    """Return how many intervals over five seeds of real students hold the margin of all, with groups and without."""
    pool = null.LSPool.load()
    ours, twins = pool.correct[: len(pool.twins)], pool.twins
    truth = float(ours.mean() - twins.mean())
    groups, rng = groups_of(sizes), np.random.default_rng(len(sizes))
    found = Counter({"audits": draws})
    for _ in range(draws):
        seeds = rng.permutation(len(twins))[:FIRST]
        images = rng.integers(0, ours.shape[1], groups.max() + 1)[groups]
        for name, given in (("with", groups), ("without", None)):
            low, high = paired(ours[seeds][:, images], twins[seeds][:, images], given).interval()
            found[f"{name}: covered"] += low <= truth <= high
    return found


def _margin(
    knockoffs: list[Correct], groups: NDArray[np.int64] | None, control: Correct, attack: int, seeds: int
) -> Margin:
    return paired(knockoffs[attack][:seeds], control[:seeds], groups)


def main() -> None:
    """Simulate what is missing, then print the table."""
    parser = argparse.ArgumentParser(description="Simulate audits whose test images come in groups.")
    parser.add_argument("--audits", type=int, default=1_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("groups.json"))
    asked = parser.parse_args()
    held = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    while any(held.get(name, {}).get("audits", 0) < asked.audits for name in SIZES):
        for number, (name, sizes) in enumerate(SIZES.items()):
            counts = Counter(held.get(name, {}))
            if counts["audits"] < asked.audits:
                rng = np.random.default_rng([number, counts["audits"]])
                for _ in range(PART):
                    counts.update(audit(groups_of(sizes), rng))
                held[name] = dict(counts)
                write_whole(asked.out, (json.dumps(held, indent=1) + "\n").encode())
    if "real" not in held:
        held["real"] = {name: dict(real(sizes, asked.audits)) for name, sizes in SIZES.items()}
        write_whole(asked.out, (json.dumps(held, indent=1) + "\n").encode())
    print(table(held))
    print(real_table(held["real"]))


def table(held: dict[str, dict[str, float]]) -> str:
    """Return the table in docs/statistics.md."""
    lines = [
        "| images a group | --groups | coverage, 5 / 10 / 20 seeds | false UNDISTILLABLE | false DISTILLABLE "
        "| half width, 10 seeds |",
        "|---|---|---|---|---|---|",
    ]
    for name, counts in ((name, held[name]) for name in SIZES):
        for given in ("without", "with"):
            covered = " / ".join(f"{_share(counts, f'{given}: covered, {s} seeds'):.1f}" for s in FIXED)
            words = " | ".join(_with_error(counts, f"{given}: {letter}") for letter in "UD")
            half = counts[f"{given}: half width, points"] / counts["audits"]
            lines.append(f"| {name} | {given} | {covered} | {words} | ±{half:.2f} |")
    return "\n".join(lines)


def real_table(held: dict[str, dict[str, float]]) -> str:
    """Return the table of real students in docs/statistics.md."""
    rows = [[_share(held[name], f"{given}: covered") for name in SIZES] for given in ("without", "with")]
    lines = [f"| images a group | {' | '.join(SIZES)} |", f"|---|{'---|' * len(SIZES)}"]
    titles = ("covered without --groups, %", "covered with --groups, %")
    return "\n".join(
        lines + [f"| {t} | {' | '.join(f'{v:.1f}' for v in row)} |" for t, row in zip(titles, rows, strict=True)]
    )


def _share(counts: dict[str, float], what: str) -> float:
    return 100 * counts.get(what, 0) / counts["audits"]


def _with_error(counts: dict[str, float], what: str) -> str:
    low, high = (100 * end for end in wilson(counts.get(what, 0), counts["audits"]))
    return f"{_share(counts, what):.1f} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    main()
