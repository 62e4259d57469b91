"""How often `audit limit` is right, in simulated panels: budgets that are falsely called safe, and where limits lie.

A panel is one attacker on one surface. The search and the rules are those of the audit: audit/limits/search.py chooses
the budgets, and each look is an audit, by audit/statistics/verdict.py at 5 % over the most looks there may be. Margins
are drawn as benchmarks/sequential.py draws them. The first attack gains what a teacher's truth says, by its budget; the
others lose a point, or gain as little. Budgets share the control's students and the test images as audits do; where
nothing is shared, false words add up, which is the worst case.

    python benchmarks/limit.py [--panels 1000] [--jobs 2]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from judging import Share, look_by_look
from sequential import Noise, margin, margins

from audit.limits import search
from audit.limits.judged import WORDS
from audit.statistics.verdict import ALPHA, DELTA
from reports.limit.document import Outcome
from teachers.files import write_whole

FILE: Final = Path(__file__).with_name("limit.json")
NOISES: Final = {"small": Noise(0.2, 0.05), "medium": Noise(0.5, 0.15), "large": Noise(0.8, 0.3)}
MOST: Final = 10  # seeds
LOOKS: Final = "4 to 10 seeds"
FIRST: Final = {"10 seeds": MOST, LOOKS: 4}  # at the first look
DESIGNS: Final = ((6, 1, LOOKS), (10, 8, "10 seeds"))  # budgets, attacks and seeds where the place of limits is told
LOSS: Final = -0.01


class Truth(NamedTuple):
    """What attacks gain truly: the first one by its share of the largest budget's place, the others by no budget."""

    first: Callable[[float], float]
    others: float = LOSS
    shared: bool = True  # whether budgets have the same control and test images


def rising(place: float) -> float:
    """Return the gain from a teacher that answers truthfully: up to ten points."""
    return 0.1 * place**3


WORST: Final = "every budget gains δ, and nothing is shared"
TRUTHS: Final = {
    WORST: Truth(lambda place: DELTA, shared=False),
    "every budget gains δ": Truth(lambda place: DELTA),
    "truthful: rises from 0 to 10 points": Truth(rising),
    "truthful for many queries, to 2 points": Truth(lambda place: min(0.02, rising(place))),
    "truthful for few queries, to 0.1 points": Truth(lambda place: min(0.001, rising(place))),
    "no attack gains": Truth(lambda place: 0.0, 0.0),
    "all lose a point": Truth(lambda place: LOSS),
}


@dataclass(frozen=True)
class Case:
    """A kind of panels."""

    truth: str
    noise: str
    budgets: int
    attacks: int
    seeds: str
    corrected: bool = True  # whether looks share the error

    @property
    def gains(self) -> list[float]:
        """The true gain at every budget."""
        return [TRUTHS[self.truth].first(i / (self.budgets - 1)) for i in range(self.budgets)]

    @property
    def limit(self) -> int:
        """The place of the largest budget that is truly safe; −1 where none is."""
        return sum(gain < DELTA for gain in self.gains) - 1

    @property
    def alpha(self) -> float:
        """The error of each look."""
        return ALPHA / search.looks(self.budgets) if self.corrected else ALPHA


def panel(case: Case, number: int) -> int:
    """Return by how many budgets the limit of a simulated panel is too high; negative where it is too low."""
    rng, noise, (_, others, shared) = np.random.default_rng(number), NOISES[case.noise], TRUTHS[case.truth]
    attacks = case.attacks
    truths = [(gain, *(others,) * (attacks - 1)) for gain in case.gains]
    groups = [tuple(gain for truth in truths for gain in truth)] if shared else truths
    rows = [row for group in groups for row in margins(noise, group, rng)]
    outcomes: dict[int, Outcome] = {}
    while (at := search.following(outcomes, case.budgets)) is not None:
        own = rows[attacks * at : attacks * (at + 1)]
        word, _ = look_by_look(
            attacks,
            lambda i, seeds, own=own: margin(own[i][:seeds], noise, rng),  # type: ignore[misc]
            FIRST[case.seeds],
            MOST,
            alpha=case.alpha,
        )
        outcomes[at] = WORDS[word]
    return search.bounds(outcomes, case.budgets)[0] - case.limit


def simulate(case: Case, panels: int) -> dict[str, Any]:
    """Return how many of some panels are off by how many budgets."""
    off = Counter(panel(case, number) for number in range(panels))
    return asdict(case) | {"off": {str(by): off[by] for by in sorted(off)}}


def cases() -> Iterator[Case]:
    """Give every kind of panels: the worst case with all designs, the others with two."""
    for budgets, attacks, seeds in product((6, 10), (1, 8), FIRST):
        yield from (Case(WORST, noise, budgets, attacks, seeds) for noise in NOISES)
        yield Case(WORST, "medium", budgets, attacks, seeds, corrected=False)
    for truth, noise, design in product(list(TRUTHS)[1:], NOISES, DESIGNS):
        yield Case(truth, noise, *design)


def share(row: dict[str, Any], least: int, most: int) -> Share:
    """Return the share of panels whose limit is off by so many budgets."""
    return Share.of([float(least <= int(by) <= most) for by, n in row["off"].items() for _ in range(n)])


def page(rows: list[dict[str, Any]]) -> str:
    """Return both tables in Markdown."""
    held = {Case(**{name: value for name, value in row.items() if name != "off"}): row for row in rows}

    def false(*case: Any) -> str:
        return str(share(held[Case(WORST, *case)], 1, MOST))

    lines = [
        f"| budgets | attacks | seeds | {' | '.join(f'{name} noise' for name in NOISES)} | medium noise, 5 % a look |",
        "|---|---|---|---|---|---|---|",
    ]
    for design in product((6, 10), (1, 8), FIRST):
        told = [*(false(noise, *design) for noise in NOISES), false("medium", *design, False)]
        lines.append(f"| {' | '.join(map(str, (*design, *told)))} |")
    heads = [f"{budgets} budgets, {attacks} attack{'s'[: attacks - 1]}, {seeds}" for budgets, attacks, seeds in DESIGNS]
    lines += ["", f"| first attack | noise | {' | '.join(heads)} |", "|---|---|---|---|"]
    for truth, noise in product(list(TRUTHS)[1:], NOISES):
        found = [held[Case(truth, noise, *design)] for design in DESIGNS]
        lines.append(f"| {truth} | {noise} | {' | '.join(map(_placed, found))} |")
    return "\n".join(lines) + "\n"


def _placed(row: dict[str, Any]) -> str:
    """Write in percent how often the limit is right, a budget too low, lower than that, and too high."""
    ends = (0, 0), (-1, -1), (-row["budgets"], -2), (1, row["budgets"])
    return " / ".join(f"{100 * share(row, *pair).mean:.1f}" for pair in ends)


def main() -> None:
    """Simulate, write `limit.json`, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--panels", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=FILE)
    asked = parser.parse_args()
    every = list(cases())
    with ProcessPoolExecutor(asked.jobs) as pool:
        rows = list(pool.map(simulate, every, [asked.panels] * len(every)))
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    write_whole(asked.out, f"[\n{lines}\n]\n".encode())
    print(page(rows))


if __name__ == "__main__":
    main()
