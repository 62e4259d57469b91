"""What looks save on the reference teachers of glyphs: real students, trained look by look.

The first teacher of every method of the reference bag is attacked as in the bag, but with looks from five seeds to
twenty. Beside the students that were judged stand those of a fixed design: for every attack the seeds that find a
margin of δ with 80 % power, at most 20, by the variance components that the audit found. Resumable: students are kept
in the cache.

    python benchmarks/savings.py --out OUT [--methods plain,cmim] [--jobs 2] [--cache DIR]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from bag import BAGGED, checkpoint

from audit.pipeline import run
from audit.plan.options import Options
from audit.plan.suite import BAG, EFFORTS
from audit.statistics.compare import Margin, paired
from audit.statistics.power import seeds_for
from audit.statistics.sequential import HORIZON
from audit.teach import teach
from reports.record import Record
from teachers.storage.store import default_cache

EFFORT = "looks"
SUITE = replace(BAG, name="bag-1 with looks", controls=(), seeds=5, most=HORIZON)


@dataclass(frozen=True)
class Saving:
    """Seeds of each attack, as the audit took them and as a fixed design would; their LS students are as many."""

    word: str
    taken: tuple[int, ...]
    fixed: tuple[int, ...]

    @property
    def students(self) -> tuple[int, int]:
        """Return the students of both; a fixed design trains the controls for the attack that needs most."""
        return sum(self.taken) + max(self.taken), sum(self.fixed) + max(self.fixed)

    @property
    def share(self) -> float:
        """Return the share of the fixed design's students that was not trained."""
        return 1 - self.students[0] / self.students[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(BAGGED))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    EFFORTS[EFFORT] = SUITE
    print("| teacher | verdict | seeds: looks | seeds: fixed | students: looks / fixed | saved, % |")
    print("|---|---|---|---|---|---|")
    shares = []
    for method in given.methods.split(","):
        found = saving(audit(method, given.jobs, given.cache, given.out))
        shares.append(100 * found.share)
        taken, fixed = (", ".join(map(str, sorted(seeds))) for seeds in (found.taken, found.fixed))
        students = " / ".join(map(str, found.students))
        print(f"| {method} | {found.word} | {taken} | {fixed} | {students} | {found.share:.0%} |", flush=True)
    print(f"\nSaved: {np.mean(shares):.0f} % on average, {min(shares):.0f} % at worst.")


def audit(method: str, jobs: int, cache: Path, out: Path) -> Record:
    """Audit the first teacher of a method with looks."""
    name, *settings = method.split()
    teacher = checkpoint(method, 0, out)
    teach(name, teacher, data="glyphs", seed=0, settings=settings, cache=cache)
    folder = teacher.with_name(f"{teacher.stem}-looks")
    request = Options(teacher=str(teacher), effort=EFFORT, jobs=jobs, cache=cache, out=folder)
    return run(request).record


def saving(record: Record) -> Saving:
    """Hold what an audit trained against what a fixed design would."""
    judged = [row for row in record.comparisons if row.status == "judged"]
    margins: list[Margin] = [
        paired(record.correct(c.knockoff.students), record.correct(c.control.students)) for c in judged
    ]
    return Saving(record.verdict.word, tuple(m.seeds for m in margins), tuple(seeds_for(m) for m in margins))


if __name__ == "__main__":
    main()
