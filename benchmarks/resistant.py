"""Do the attacks made for teachers that resist earn their place? Each against soft KD, on teachers that protect.

Audits with soft KD and the attacks of `attacks/resistant`, then the difference of accuracies attack − soft KD, paired
by seed and test image, with Holm's correction over the whole table. Writes docs/resistant.md; resumable.

    python benchmarks/resistant.py [--columns "temperature:4,nasty weight=0.04"] [--seeds 5] [--jobs 2] [--cache DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attacks import resistant
from audit.pipeline import run
from audit.plan.options import Options
from audit.statistics.compare import Margin, holm, paired
from audit.teach import teach
from reports.record import Record
from teachers.storage.store import default_cache

DOCS = Path(__file__).resolve().parent.parent / "docs" / "resistant.md"
BASE = "soft-kd"
# Surfaces of the plain teacher, and ways to teach with their settings.
COLUMNS = (
    *("temperature:4", "round:1", "top:1", "reverse-sigmoid:0.5"),
    *("nasty", "nasty weight=0.04 temperature=4", "stingy"),
)
LEVEL = 0.05

HEAD = """# Attacks made for teachers that resist

The table shows how much more each attack gains than soft KD on the same protected teacher, in points, with
two-sided 95 % intervals over training seeds and test images. `python benchmarks/resistant.py` made it, with {seeds}
judged seeds and {images:,} test images of `{task}`; every attack was tuned on validation over at most {settings}
settings. Bold numbers are significantly stronger than soft KD (one-sided, Holm's correction over all {cells} cells,
level {level}). The first rows are the teacher's accuracy and soft KD's own margin over the LS student.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", default=",".join(COLUMNS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--out", type=Path, default=Path("audit-out/resistant"))
    given = parser.parse_args()
    records = {}
    for column in given.columns.split(","):
        teacher, surface = ("demo", column) if ":" in column else (taught(column, given.out, given.cache), "probs")
        title = f"plain, `{column}`" if ":" in column else column
        out = given.out / column.replace(":", "-").replace(" ", "-")
        records[title] = audit(teacher, surface, out, given.seeds, given.jobs, given.cache)
    DOCS.write_text(table(records), encoding="utf-8")


def taught(column: str, out: Path, cache: Path) -> str:
    """Teach a teacher on glyphs, `METHOD NAME=VALUE NAME=VALUE`; return its checkpoint."""
    path = out / f"{column.replace(' ', '-')}.pt"
    method, *settings = column.split()
    teach(method, path, data="glyphs", settings=settings, cache=cache)
    return str(path)


def audit(teacher: str, surface: str, out: Path, seeds: int, jobs: int, cache: Path) -> Record:
    """Run one audit, or read it where it is finished."""
    names = [BASE, *(a.name for a in resistant.ATTACKS)]
    return run(
        Options(teacher=teacher, attacks=",".join(names), surface=surface, seeds=seeds, jobs=jobs, cache=cache, out=out)
    ).record


def correct(record: Record, attack: str) -> NDArray[np.bool_]:
    """Return what the judged students of an attack got right, (S, N)."""
    return record.correct(next(c for c in record.comparisons if c.attack == attack).knockoff.students)


def table(records: dict[str, Record]) -> str:
    """Write the page."""
    names = [a.name for a in resistant.ATTACKS]
    gains = {(n, title): paired(correct(r, n), correct(r, BASE)) for n in names for title, r in records.items()}
    p = dict(zip(gains, holm([margin.p_above() for margin in gains.values()]), strict=True))
    first = next(iter(records.values()))
    head = HEAD.format(
        seeds=first.suite.seeds,
        images=first.task.test,
        task=first.task.name,
        settings=first.suite.settings,
        cells=len(gains),
        level=LEVEL,
    )
    own = [next(c.margin for c in r.comparisons if c.attack == BASE) for r in records.values()]
    rows = [f"| {' | '.join(['attack', *records])} |", "|" + "---|" * (1 + len(records))]
    told = [f"{100 * m.mean:+.1f} [{100 * m.low:+.1f}, {100 * m.high:+.1f}]" for m in own if m is not None]
    rows.append(f"| teacher, % | {' | '.join(f'{100 * r.teacher.test_accuracy:.1f}' for r in records.values())} |")
    rows.append(f"| {BASE} over LS | {' | '.join(told)} |")
    for name in names:
        cells = [_cell(gains[name, title], p[name, title] < LEVEL) for title in records]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([head, *rows]) + "\n"


def _cell(margin: Margin, significant: bool) -> str:
    low, high = margin.interval()
    text = f"{100 * margin.mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"**{text}**" if significant else text


if __name__ == "__main__":
    main()
