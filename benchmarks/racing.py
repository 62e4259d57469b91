"""What racing costs: the setting that a race chooses, against that of all seeds, where all were tuned.

Reads what tuning saw of the teachers of the reference bag (bag-2-tuning.json: two seeds of every setting on validation
images), lets the settings of each technique race with either seed first, and prints, by method and number of finalists,
how many students a race trains and how much validation accuracy its choice loses: its regret, in points.

    python benchmarks/racing.py
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TUNING = Path(__file__).with_name("bag-2-tuning.json")
FINALISTS = (2, 3, 4)
Scores = list[list[float]]  # of each setting, by seed


class Cost(NamedTuple):
    """Students of a race, those of all seeds, and the regret in points."""

    students: int
    every: int
    regret: float


def races(methods: dict[str, dict[str, dict[str, list[float]]]]) -> Iterator[tuple[str, Scores]]:
    """Yield each race with its method: settings of one technique, of as many steps and the same views, on two seeds."""
    for name, techniques in methods.items():
        for technique in techniques.values():
            found: dict[object, Scores] = defaultdict(list)
            for setting, scores in technique.items():
                said = json.loads(setting)
                if len(scores) == 2:
                    found[said["steps"], said.get("view"), said["views"]].append(scores)
            yield from ((name.partition(",")[0], scores) for scores in found.values() if len(scores) > 1)


def cost(scores: Scores, finalists: int, first: int) -> Cost:
    """Let settings race, the seed `first` first."""
    ranked = sorted(scores, key=lambda setting: setting[first], reverse=True)
    lost = max(map(sum, scores)) / 2 - max(map(sum, ranked[:finalists])) / 2
    return Cost(len(scores) + min(finalists, len(scores)), 2 * len(scores), 100 * lost)


def main() -> None:
    """Print the table."""
    every = list(races(json.loads(TUNING.read_text())))
    print("| method | races |", " | ".join(f"{n} finalists: largest, mean regret; students" for n in FINALISTS), "|")
    print(f"|---|---|{'---|' * len(FINALISTS)}")
    for method in (*dict.fromkeys(name for name, _ in every), "all"):
        mine = [scores for name, scores in every if method in (name, "all")]
        cells = []
        for finalists in FINALISTS:
            costs = [cost(scores, finalists, first) for scores in mine for first in (0, 1)]
            share = 1 - sum(c.students for c in costs) / sum(c.every for c in costs)
            worst, mean = max(c.regret for c in costs), sum(c.regret for c in costs) / len(costs)
            cells.append(f"{worst:.2f}, {mean:.3f}; −{100 * share:.0f} %")
        print(f"| {method} | {2 * len(mine)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
