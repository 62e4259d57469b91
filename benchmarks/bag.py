"""The reference bag: every way to teach, audited the same way. Does it withstand, and what does CMI have to do with it?

Every method teaches three teachers of `glyphs`; each is audited with the suite bag-1, with all labels and with a tenth
of images and labels. Attacks are tuned once for a method and scenario, on its first teacher. A method's margin counts
its teachers as random. Writes docs/bag.md; resumable: students are kept in the cache, and audits in OUT.

    python benchmarks/bag.py [--methods plain,cmim] [--jobs 2] [--cache DIR] [--out OUT]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from attacks import registry
from attacks.base import Attack
from audit.compare import Margin, over_teachers
from audit.plan import Request
from audit.run import run
from audit.store import default_cache
from audit.subjects import Opening
from audit.suite import BAG
from audit.teaching import teach
from audit.verdict import Finding, Ruling, rule
from reports.record import Comparison, Record
from teachers.methods import METHODS

DOCS = Path(__file__).resolve().parent.parent / "docs" / "bag.md"
TEACHERS = 3
SCENARIOS = {"all labels": 1.0, "a tenth of images and labels": 0.1}

HEAD = """# The reference bag

Every way to teach (`audit ls teachers`), {teachers} teachers each, audited on `{task}` ({images:,} test images) with
the suite {suite}: {attacks}; {seeds} student seeds, tuned on validation over {settings} settings × {tuning} seeds on a
method's first teacher. Made by `python benchmarks/bag.py`.

Margins over the tuned LS student in points, 95 % intervals; teachers, student seeds and test images are all random. A
verdict is about the method: it would hold for another teacher of the same method. CMI is the largest over temperatures,
in nats, on held-out images.
"""


@dataclass(frozen=True)
class Entry:
    """A method in a scenario: the audits of its teachers."""

    method: str
    scenario: str
    records: tuple[Record, ...]

    @cached_property
    def margins(self) -> dict[str, Margin]:
        """Return the margin of every attack that was judged on all teachers."""
        rows = [{c.attack: c for c in r.comparisons if c.margin is not None} for r in self.records]
        common = [name for name in rows[0] if all(name in row for row in rows)]
        return {name: self._margin(name) for name in common}

    def _margin(self, attack: str) -> Margin:
        rows = [row(r, attack) for r in self.records]
        knockoffs = [r.correct(of.students) for r, of in zip(self.records, rows, strict=True)]
        return over_teachers(np.stack(knockoffs), self.records[0].correct(rows[0].control_students))

    @property
    def ruling(self) -> Ruling:
        """Return the verdict over teachers; every attack of the suite bites on the ordinary teacher (docs/bites.md)."""
        return rule(
            [Finding(attack=n, status="judged", margin=m, bites=True) for n, m in self.margins.items()],
            (),
            complete=len(self.margins) == len(BAG.attacks),
        )

    @property
    def best(self) -> str:
        """Return the attack that gains most."""
        return max(self.margins, key=lambda name: self.margins[name].mean)

    @property
    def accuracy(self) -> float:
        """Return the teachers' mean test accuracy."""
        return float(np.mean([r.teacher.test_accuracy for r in self.records]))

    @property
    def cmi(self) -> float:
        """Return the teachers' mean of the largest CMI over temperatures on validation images, in nats."""
        return float(np.mean([max(next(p.cmi for p in r.cmi if p.name == "validation")) for r in self.records]))


def row(record: Record, attack: str) -> Comparison:
    return next(c for c in record.comparisons if c.attack == attack)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--out", type=Path, default=Path("audit-out/bag"))
    given = parser.parse_args()
    entries = [
        audit(method, scenario, given.jobs, given.cache, given.out)
        for method in given.methods.split(",")
        for scenario in SCENARIOS
    ]
    DOCS.write_text(page(entries), encoding="utf-8")


def audit(method: str, scenario: str, jobs: int, cache: Path, out: Path) -> Entry:
    """Audit a method's teachers in a scenario, or read the audits that are finished."""
    records: list[Record] = []
    for seed in range(TEACHERS):
        teacher = out / f"{method}-{seed}.pt"
        teach(method, teacher, data="glyphs", seed=seed, cache=cache)
        request = Request(
            Opening(str(teacher)),
            effort="bag",
            shots=SCENARIOS[scenario],
            jobs=jobs,
            cache=cache,
            out=out / f"{method}-{seed}-{SCENARIOS[scenario]:g}",
            command="python benchmarks/bag.py",
            fixed=chosen(records[0]) if records else (),
        )
        records.append(run(request).record)
    return Entry(method, scenario, tuple(records))


def chosen(record: Record) -> tuple[Attack, ...]:
    """Return the attacks with the settings that an audit chose."""
    return tuple(registry.attacks()[c.attack](**c.parameters) for c in record.comparisons if c.margin is not None)


def page(entries: list[Entry]) -> str:
    """Write the page."""
    first = entries[0].records[0]
    parts = [
        HEAD.format(
            teachers=TEACHERS,
            task=first.task.name,
            images=first.task.test,
            suite=BAG.name,
            attacks=", ".join(BAG.attacks),
            seeds=BAG.seeds,
            settings=BAG.settings,
            tuning=BAG.tuning_seeds,
        )
    ]
    for scenario in SCENARIOS:
        held = [e for e in entries if e.scenario == scenario]
        parts.append(f"\n## With {scenario}\n")
        parts.append("| method | teacher, % | CMI | best attack | its margin | verdict | soft-kd | avg | lskd |")
        parts.append("|---|---|---|---|---|---|---|---|---|")
        parts += [_line(e) for e in sorted(held, key=lambda e: -e.margins[e.best].mean)]
        if len(held) > 3:
            parts.append("\n" + correlation(held))
    return "\n".join(parts) + "\n"


def _line(entry: Entry) -> str:
    m = entry.margins
    cells = [entry.method, f"{100 * entry.accuracy:.1f}", f"{entry.cmi:.2f}", entry.best, _told(m[entry.best])]
    cells += [entry.ruling.word, *(_told(m[name]) if name in m else "–" for name in ("soft-kd", "avg", "lskd"))]
    return f"| {' | '.join(cells)} |"


def _told(margin: Margin) -> str:
    low, high = margin.interval()
    return f"{100 * margin.mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def correlation(entries: list[Entry], draws: int = 10_000) -> str:
    """Say how CMI and the margin rank methods alike, with a bootstrap over methods, and partially on accuracy."""
    data = np.array([(e.cmi, e.margins[e.best].mean, e.accuracy) for e in entries])
    rng = np.random.default_rng(0)
    drawn = [data[rng.integers(0, len(data), len(data))] for _ in range(draws)]
    sentences = []
    for name, measure in (("rank correlation", _rank), ("the same, partial on teacher accuracy", _partial)):
        values = np.array([measure(d) for d in drawn])
        low, high = np.nanquantile(values, [0.025, 0.975])
        sentences.append(f"{name} {measure(data):+.2f} [{low:+.2f}, {high:+.2f}]")
    told = "; ".join(sentences)
    return f"CMI against the best attack's margin over {len(entries)} methods, bootstrap by method: {told}."


def _rank(data: NDArray[np.float64]) -> float:
    return float(spearmanr(data[:, 0], data[:, 1]).statistic) if len(np.unique(data[:, 0])) > 1 else np.nan


def _partial(data: NDArray[np.float64]) -> float:
    """Correlate ranks of CMI and margin after taking the rank of accuracy out of both."""
    ranks = np.apply_along_axis(rankdata, 0, data)
    base = np.column_stack([np.ones(len(data)), ranks[:, 2]])
    left = ranks[:, :2] - base @ np.linalg.lstsq(base, ranks[:, :2], rcond=None)[0]
    spread = np.linalg.norm(left, axis=0)
    return float(left[:, 0] @ left[:, 1] / spread.prod()) if spread.min() > 1e-9 else np.nan


if __name__ == "__main__":
    main()
