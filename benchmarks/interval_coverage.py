"""Simulate audits whose true margins are known, and count how often the interval and the verdict are right.

An audit holds a control and eight attacks (see scatter.py); the same students are compared where no attack gains, where
all gain δ, and where one gains more. Tables: coverage of the two-sided 95 % interval; the share of audits with a false
DISTILLABLE (an attack's Holm-adjusted one-sided p below the level, though none gains); and that of a false
UNDISTILLABLE where an attack gains just δ and nothing but this attack and the flag `erratic-control` stands in its way,
which is the hardest case: the more attacks gain, the rarer it gets. Beside them what peers would use (see peers.py).
Where fewer than 30 discordant images are expected, the table counts how often the guard of the verdict closes. The
worst rows are simulated again, to undo the luck that made them worst.

    python benchmarks/interval_coverage.py --audits 300
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from judging import LEVELS, Share, covered, distillable, half_width, passes
from peers import bootstrap_over_images, satterthwaite, t_over_seeds
from scatter import ATTACKS, Design, Students, draw

from audit.analysis import protocol_flags
from audit.statistics.compare import paired, scatter
from audit.statistics.verdict import DELTA, usable
from reports.record import DISCORDANT
from teachers.proportions import mcnemar

GUARDED = 60  # audits of a design whose intervals are not to be trusted
WORST = 4
AGAIN = 10
HEADER = (
    "seeds  images accuracy seed image noise | discord. few erratic | coverage      better satt. "
    "| DISTILLABLE at 5 %, 2.5 %     | UNDISTILLABLE at 5 %, 2.5 %   | half width "
    "|| cover: seeds-t images | DISTILLABLE: seeds-t images McNemar"
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Hold what one simulated audit came to."""

    discordant: float
    flagged: float
    """Share of attacks with fewer than 30 discordant images, or no variance."""
    erratic: float
    """Whether the control of an attack that gains δ raises the flag that forbids UNDISTILLABLE."""
    covered: float
    better: float
    satterthwaite: float
    half_width: float
    distillable: tuple[bool, ...]
    """At each of LEVELS, where no attack gains."""
    undistillable: tuple[float, ...]
    """At each of LEVELS, where one attack gains δ: the share of attacks that would have let it pass."""
    peers_covered: tuple[float, ...]
    peers_distillable: tuple[bool, ...]


@dataclass(frozen=True)
class Row:
    """Hold what a simulation of one design found."""

    design: Design
    outcomes: tuple[Outcome, ...]

    @property
    def guarded(self) -> bool:
        """Say whether too few discordant images are expected for an interval."""
        return self.mean("discordant") < DISCORDANT

    @property
    def coverage(self) -> Share:
        """Give the coverage of the two-sided 95 % interval where no attack gains."""
        return Share.of([o.covered for o in self.outcomes])

    def mean(self, name: str) -> float:
        """Average a field of the outcomes."""
        return float(np.mean([getattr(o, name) for o in self.outcomes]))

    def shares(self, name: str) -> list[Share]:
        """Average each part of a field of the outcomes."""
        return [Share.of(part) for part in zip(*(getattr(o, name) for o in self.outcomes), strict=True)]

    def __str__(self) -> str:
        d = self.design
        seeds = f"{d.seeds}" if d.seeds == d.control_seeds else f"{d.seeds}/{d.control_seeds}"
        covered = "  ".join(f"{100 * share.mean:5.1f}" for share in self.shares("peers_covered"))
        false = "  ".join(f"{100 * share.mean:5.1f}" for share in self.shares("peers_distillable"))
        unequal = f" control sd {d.control_share:g}, shared {d.shared:g}" if d.seeds != d.control_seeds else ""
        return (
            f"{seeds:>5} {d.images:7} {d.accuracy:8.3f} {d.seed_points:4.1f} {d.image_sd:5.1f} {d.noise_sd:5.1f} "
            f"| {self.mean('discordant'):7.0f} {100 * self.mean('flagged'):4.0f} {100 * self.mean('erratic'):5.0f} % "
            f"| {self.coverage} "
            f"{100 * self.mean('better'):5.1f} {100 * self.mean('satterthwaite'):5.1f} "
            f"| {'  '.join(map(str, self.shares('distillable')))} "
            f"| {'  '.join(map(str, self.shares('undistillable')))} "
            f"| {100 * self.mean('half_width'):6.2f} || {covered} | {false}{unequal}"
        )


def designs() -> Iterator[Design]:
    """List the designs of the table whose attacks and controls have equally many seeds."""
    tests = (
        *((500, 0.5), (500, 0.8), (500, 0.9), (2000, 0.8), (2000, 0.97)),
        *((6200, 0.7), (10_000, 0.5), (10_000, 0.97), (10_000, 0.995)),
    )
    spread = (0.0, 0.3, 1.0), (0.0, 0.4, 1.5), (0.2, 0.8)
    for seeds, (images, accuracy), points, image_sd, noise_sd in product((3, 5, 10, 20), tests, *spread):
        yield Design(
            seeds=seeds,
            images=images,
            accuracy=accuracy,
            seed_points=points,
            image_sd=image_sd,
            noise_sd=noise_sd,
            control_seeds=seeds,
        )


def unequal() -> Iterator[Design]:
    """List the designs of the table of unequal seed counts."""
    counts = ((3, 4), (3, 10), (3, 20), (5, 20), (10, 12), (10, 20), (10, 3), (20, 5))
    tests = ((500, 0.8), (2000, 0.97), (6200, 0.7))
    scatter = ((1.0, 0.0), (1.0, 0.7), (0.3, 0.0), (3.0, 0.0))
    for (seeds, control), (images, accuracy), points, (share, shared) in product(
        counts, tests, (0.0, 0.3, 1.0), scatter
    ):
        if points or (share, shared) == scatter[0]:
            yield Design(
                seeds=seeds,
                images=images,
                accuracy=accuracy,
                seed_points=points / max(1.0, share),
                image_sd=0.4,
                noise_sd=0.4,
                control_seeds=control,
                control_share=share,
                shared=shared,
            )


def judged(students: Students) -> Outcome:
    """Judge one simulated audit."""
    control, lower, gain = students.control(), students.control(DELTA), better(students.design)
    erratic = protocol_flags.erratic_control(scatter(lower)) is not None
    nulls = [paired(knockoff, control) for knockoff in students.knockoffs]
    at_delta = [paired(knockoff, lower) for knockoff in students.knockoffs]
    best = paired(students.knockoffs[0], students.control(gain))
    equal = students.design.seeds == students.design.control_seeds
    peers = (t_over_seeds, bootstrap_over_images) if equal else ()
    one_seed = [mcnemar(knockoff[0], control[0]) for knockoff in students.knockoffs]
    return Outcome(
        discordant=float(np.mean([m.discordant for m in nulls])),
        flagged=float(np.mean([not usable(m) for m in nulls])),
        erratic=float(erratic),
        covered=covered(nulls),
        better=float(abs(best.mean - gain) <= half_width(best, 0.025)),
        satterthwaite=covered(nulls, satterthwaite),
        half_width=float(np.mean([half_width(m, 0.025) for m in nulls])),
        distillable=tuple(distillable(nulls, level) for level in LEVELS),
        undistillable=tuple(
            0.0 if erratic else float(np.mean([passes(m, level, len(at_delta)) for m in at_delta])) for level in LEVELS
        ),
        peers_covered=tuple(covered(nulls, peer) for peer in peers),
        peers_distillable=(
            *(distillable(nulls, LEVELS[0], peer) for peer in peers),
            min(one_seed) < LEVELS[0] / ATTACKS,
        ),
    )


def better(design: Design) -> float:
    """Give the margin of the one that gains more."""
    return min(0.02, (1 - design.accuracy) / 2)


def simulate(design: Design, audits: int, seed: int) -> Row:
    """Run many audits of a design, fewer where too few discordant images are expected."""
    rng = np.random.default_rng(seed)
    few = Row(design, tuple(judged(draw(design, rng)) for _ in range(min(audits, GUARDED))))
    if few.guarded:
        return few
    return Row(design, (*few.outcomes, *(judged(draw(design, rng)) for _ in range(audits - len(few.outcomes)))))


def summary(rows: Sequence[Row]) -> str:
    """Tell the mean and the extremes of the columns for each number of seeds."""
    lines = [
        "seeds designs | coverage lowest mean highest | satt. lowest | DISTILLABLE at 5 % mean highest "
        "| UNDISTILLABLE at 5 % mean highest || cover lowest: seeds-t images "
        "| DISTILLABLE highest: seeds-t images McNemar"
    ]
    for seeds in sorted({(row.design.seeds, row.design.control_seeds) for row in rows}):
        some = [row for row in rows if (row.design.seeds, row.design.control_seeds) == seeds]
        c, satt = [100 * row.coverage.mean for row in some], [100 * row.mean("satterthwaite") for row in some]
        d, u = ([100 * row.shares(word)[0].mean for row in some] for word in ("distillable", "undistillable"))
        cover, false = ([row.shares(name) for row in some] for name in ("peers_covered", "peers_distillable"))
        lowest = "  ".join(f"{100 * min(share.mean for share in peer):5.1f}" for peer in zip(*cover, strict=True))
        highest = "  ".join(f"{100 * max(share.mean for share in peer):5.1f}" for peer in zip(*false, strict=True))
        lines.append(
            f"{seeds[0]:2}/{seeds[1]:2} {len(some):7} | {min(c):15.1f} {np.mean(c):4.1f} {max(c):7.1f} "
            f"| {min(satt):12.1f} | {np.mean(d):23.2f} {max(d):7.2f} | {np.mean(u):25.2f} {max(u):7.2f} "
            f"|| {lowest} | {highest}"
        )
    return "\n".join(lines)


def guarded(rows: Sequence[Row]) -> str:
    """Tell how often the guard closes where it must, and what slips through."""
    flagged = [100 * row.mean("flagged") for row in rows]
    false = [100 * row.shares(word)[0].mean for row in rows for word in ("distillable", "undistillable")]
    return f"flagged {min(flagged):.0f} to {max(flagged):.0f} %, at most {max(false):.2f} % false words"


def worst(rows: Sequence[Row]) -> list[Design]:
    """Pick the designs nearest to breaking one of the limits."""
    many = [row for row in rows if row.design.fewest >= 10]
    selection = sorted(rows, key=lambda row: row.coverage.mean)[:WORST]
    selection += sorted(many, key=lambda row: -row.coverage.mean)[:WORST]
    selection += sorted(rows, key=lambda row: row.mean("better"))[:WORST]
    for word, i in product(("distillable", "undistillable"), range(len(LEVELS))):
        selection += sorted(rows, key=lambda row: -row.shares(word)[i].mean)[:WORST]
    return list(dict.fromkeys(row.design for row in selection))


def table(tuned: Sequence[Design], audits: int, seed: int) -> list[Row]:
    """Simulate designs, printing each as it is done."""
    print(HEADER)
    rows = []
    for i, design in enumerate(tuned):
        rows.append(simulate(design, audits, seed + i))
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Simulate audits and count how often the interval is right.")
    parser.add_argument("--audits", type=int, default=300, help="simulated audits for each design")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    start = time.monotonic()
    for number, (title, tuned) in enumerate((("Equal", designs()), ("Unequal", unequal()))):
        print(f"\n{title} seed counts")
        rows = table(list(tuned), asked.audits, asked.seed + 10_000 * number)
        open_, closed = [row for row in rows if not row.guarded], [row for row in rows if row.guarded]
        print(f"\n{summary(open_)}")
        if closed:
            print(f"\n{len(closed)} designs expect fewer than {DISCORDANT} discordant images: {guarded(closed)}")
        print(f"\nThe worst again, fresh, with {AGAIN * asked.audits} audits each")
        table(worst(open_), AGAIN * asked.audits, asked.seed + 10_000 * number + 1_000_000)
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
