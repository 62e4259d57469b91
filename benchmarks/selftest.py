"""What the self-test finds: the word of every teacher whose distillability is known, and the margins behind it.

Audits the teachers as `audit selftest` does, and three beside them: `permuted` behind a temperature, `class-means` and
the mean answer of five twins; the right word of the last two is not known. Writes the tables of docs/selftest.md.
Resumable: students are kept in the cache, and audits in OUT; teachers without a finished audit in OUT are audited
unless --finished leaves them out.

    python benchmarks/selftest.py [--only placebo,demo] [--finished] [--jobs 2] [--cache DIR] [--out OUT]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from audit.cache.store import Cache
from audit.pipeline import run
from audit.plan.options import Options
from audit.selftest import EXPECTED, MUST, asked, check
from reports import controls
from reports.record import Comparison, Record, load
from reports.wording import distils, points, span
from teachers.data import datasets
from teachers.methods import TeacherRecipe, default_recipe, method
from teachers.methods.training import default_student
from teachers.names import CLASS_MEANS, PERMUTED
from teachers.storage.store import default_cache
from teachers.targets.runtime import Runtime
from teachers.targets.teaching import BORN_AGAIN_SEED, taught

DOCS = Path(__file__).resolve().parent.parent / "docs" / "selftest.md"
BEGIN, END = "<!-- from benchmarks/selftest.py -->", "<!-- to here -->"
COOL, FIVE = "permuted-4", "five-twins"
TEACHERS = (*EXPECTED, COOL, CLASS_MEANS, FIVE)


class FiveTwins(nn.Module):
    """Answers the mean of five students that learned from labels, each as `born-again` did."""

    def __init__(self, twins: list[nn.Module]) -> None:
        super().__init__()
        self.twins = nn.ModuleList(twins)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([twin(x).softmax(-1) for twin in self.twins]).mean(0).log()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(TEACHERS))
    parser.add_argument("--finished", action="store_true", help="write what is in OUT, and audit nothing")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--out", type=Path, default=Path("audit-out/selftest"))
    given = parser.parse_args()
    for name in () if given.finished else given.only.split(","):
        options = asked(name, jobs=given.jobs, cache=given.cache, out=given.out)
        run(OTHERS[name](options) if name in OTHERS else options, command="python benchmarks/selftest.py")
    records = {name: load(given.out / name) for name in TEACHERS if (given.out / name / "record.json").exists()}
    head, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    DOCS.write_text(f"{head}{BEGIN}\n{tables(records)}\n{END}{tail}", encoding="utf-8")


def cool(options: Options) -> Options:
    """Ask about `permuted` at temperature 4."""
    return replace(options, teacher=PERMUTED, surface="temperature:4")


def five(options: Options) -> Options:
    """Ask about the mean of five students."""
    assert options.cache is not None
    task, place = datasets.load("glyphs", options.cache), Runtime(Cache(options.cache), "cpu", print)
    recipe, smoothed = default_recipe(task, default_student(task)), method("label-smoothing")
    recipes = [TeacherRecipe(smoothed, recipe, BORN_AGAIN_SEED + i) for i in range(5)]
    networks = [taught(one, task, place, name=FIVE).network for one in recipes]
    twins = FiveTwins([network for network in networks if network is not None]).eval()
    return replace(options, teacher="live:FiveTwins", live=twins, data="glyphs")


OTHERS: dict[str, Callable[[Options], Options]] = {COOL: cool, FIVE: five}


def tables(records: dict[str, Record]) -> str:
    """Return a table of words and margins, and one of the adaptive attack's margins over each kind of control."""
    first = next(iter(records.values()))
    heads = ("teacher", "accuracy, %", "word", "as required", *first.suite.attacks)
    lines = [_row(heads), _row(["---"] * len(heads))]
    for name, record in records.items():
        rows = {row.attack: row for row in record.comparisons}
        accuracy = f"{100 * record.teacher.test_accuracy:.1f}"
        margins = [told(rows[attack], record) if attack in rows else "–" for attack in first.suite.attacks]
        lines.append(_row([f"`{name}`", accuracy, record.verdict.word, required(name, record), *margins]))
    lines += ["", _row(["teacher", *controls.HEADS.values(), "decoded"]), _row(["---"] * (2 + len(controls.HEADS)))]
    for name, record in records.items():
        row = next((row for row in record.comparisons if row.attack == "adaptive"), None)
        if row is not None and row.margins:
            lines.append(_row([f"`{name}`", *controls.cells(row), "; ".join(record.decoded(row)) or "nothing"]))
    return "\n".join(lines)


def required(name: str, record: Record) -> str:
    """Say whether an audit found what it must find."""
    expected = {**EXPECTED, COOL: MUST}.get(name)
    if expected is None:
        return "not known"
    return "yes" if check(name, expected, record).holds else "**no**"


def told(row: Comparison, record: Record) -> str:
    """Write an attack's margin over its control, bold where it makes the teacher distillable."""
    if row.margin is None:
        return row.status
    text = f"{points(row.margin.mean)} {span(row.margin)}"
    return f"**{text}**" if distils(row, record) else text


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
