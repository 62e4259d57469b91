"""How often audits of a whole suite say UNDISTILLABLE, rightly and falsely, by tolerance, images and seeds.

Simulated with the variance components and correlations of the bag bag-1 (audit/statistics/joint.py). Rightly: no
attack gains anything. Falsely: one attack gains just the tolerance, while the others gain nothing, or lose a point.

    python benchmarks/joint.py [--audits 2000]     resumable; the results are kept beside this file
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from audit.statistics.joint import words
from audit.statistics.power import reference
from audit.statistics.sequential import schedule

FILE = Path(__file__).with_name("joint.json")
FIRST = 5
TRUTHS = {"none gains": (0.0, 0.0), "one gains δ": (1.0, 0.0), "one gains δ, the others lose a point": (1.0, -0.01)}


def designs() -> Iterator[tuple[int, int, int, float]]:
    """List attacks, seeds at the last look, images and tolerances in points."""
    yield from product((25, 40), (10, 20), (6_200, 20_000, 50_000), (0.5, 0.75, 1.0))


def truth(name: str, attacks: int, delta: float) -> np.ndarray:
    """Return the true margin of every attack."""
    first, others = TRUTHS[name]
    return np.array([first * delta, *[others] * (attacks - 1)])


def main() -> None:
    """Simulate what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=2_000)
    audits = parser.parse_args().audits
    found: dict[str, list[float]] = json.loads(FILE.read_text()) if FILE.is_file() else {}
    scatter = reference()
    print("| attacks | seeds | images | δ, points | " + " | ".join(f"{name}: U / D" for name in TRUTHS) + " |")
    print("|---" * (4 + len(TRUTHS)) + "|")
    for attacks, most, images, points in designs():
        cells = []
        for name in TRUTHS:
            key = f"{attacks} attacks, {most} seeds, {images} images, {points} points, {name}, {audits} audits"
            if key not in found:
                margins, rng = truth(name, attacks, points / 100), np.random.default_rng(0)
                said = words(scatter, schedule(FIRST, most), images, margins, points / 100, audits, rng)
                found[key] = [said.undistillable, said.distillable]
                FILE.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
            cells.append(" / ".join(f"{100 * share:.1f}" for share in found[key]))
        print(f"| {attacks} | {most} | {images:,} | {points:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
