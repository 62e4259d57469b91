"""Audits that end as soon as their word is sure, in simulation: false DISTILLABLE, and students until the word.

An audit plans 32 attacks, as the suite of standard effort does. One design runs them all; the other runs them in the
groups of that suite and ends where Holm over all planned attacks says DISTILLABLE, those that have not run with p = 1.
Both see the same students. Margins are drawn as benchmarks/sequential.py draws them, or are those of real LS students
that pose as attacks (benchmarks/null.py). Each attack's students count, and those of the control. Where some attack
gains, a tenth of the audits is drawn.

    python benchmarks/stopped.py [--audits 1000]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from judging import Share, look_by_look
from null import LSPool
from sequential import FIRST, Noise, margin, margins

from audit.plan.suite import STANDARD
from audit.statistics.compare import Margin, paired

ATTACKS, STOPS = len(STANDARD.attacks), STANDARD.stops or ()
POSING = 22  # as many as the pool has students for
MOST = STANDARD.most or STANDARD.seeds
NOISES = (Noise(0.2, 0.05), Noise(0.5, 0.15), Noise(0.8, 0.3))
NOTHING = (0.0,) * ATTACKS
TRUTHS = {
    "no attack gains": NOTHING,
    "the first gains three points": (0.03, *NOTHING[1:]),
    "the last gains three points": (*NOTHING[1:], 0.03),
    "all gain three points": (0.03,) * ATTACKS,
}
Ask = Callable[[int, int], Margin]


def words(ask: Ask, attacks: int) -> tuple[float, ...]:
    """Return of both designs whether they say DISTILLABLE and how many students they train: all attacks, then stops."""
    found = (look_by_look(attacks, ask, FIRST, MOST, stops) for stops in ((), STOPS))
    return tuple(value for word, taken in found for value in (word == "DISTILLABLE", sum(taken) + max(taken)))


def drawn(truths: tuple[float, ...], noise: Noise, audit: int) -> Ask:
    """Return the margins of a simulated audit: the same however often and in whichever order they are asked for."""
    rows = margins(noise, truths, np.random.default_rng(audit))
    return lambda i, seeds: margin(rows[i][:seeds], noise, np.random.default_rng((audit, i, seeds)))


def real(pool: LSPool, audit: int) -> Ask:
    """Return the margins of LS students that pose as attacks, each student drawn once."""
    order = np.random.default_rng(audit).permutation(len(pool.correct))[: (POSING + 1) * MOST]
    control, *attacks = pool.correct[order].reshape(POSING + 1, MOST, -1)
    return lambda i, seeds: paired(attacks[i][:seeds], control[:seeds])


def line(name: str, audits: list[tuple[float, ...]]) -> str:
    """Return a row of the table."""
    whole, students, stopped, fewer = (Share.of(column) for column in zip(*audits, strict=True))
    return f"| {name} | {whole} | {students.mean:.0f} | {stopped} | {fewer.mean:.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=1_000)
    audits = range(parser.parse_args().audits)
    print(f"{ATTACKS} attacks, stops after {', '.join(map(str, STOPS))}; looks from {FIRST} to {MOST} seeds\n")
    print("| truth | all attacks: DISTILLABLE, % | students | with stops: DISTILLABLE, % | students |")
    print("|---|---|---|---|---|")
    for truth, values in TRUTHS.items():
        for noise in NOISES:
            name = f"{truth}; sd {noise.seed:g} and {noise.image:g} points"
            number = len(audits) if values == NOTHING else max(2, len(audits) // 10)
            print(line(name, [words(drawn(values, noise, i), ATTACKS) for i in audits[:number]]), flush=True)
    pool = LSPool.load()
    print(line(f"{POSING} of real LS students", [words(real(pool, i), POSING) for i in audits]), flush=True)


if __name__ == "__main__":
    main()
