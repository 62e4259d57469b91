"""What the self-test finds: the word of every teacher whose distillability is known, and the margins behind it.

Audits the teachers as `audit selftest` does, and three beside them: `permuted` behind a temperature, `class-means` and
the mean answer of five twins; the right word of the last two is not known. Keeps what the tables of docs/selftest.md
say in benchmarks/selftest.json, and writes them. Resumable: students are kept in the cache, audits in OUT, and teachers
that are not audited again in the file. `--only=` writes the tables alone.

    python benchmarks/selftest.py [--only placebo,demo] [--jobs 2] [--cache DIR] [--out OUT]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from audit.cache.store import Cache
from audit.pipeline import run
from audit.plan.options import Options
from audit.plan.suite import suite
from audit.selftest import EFFORT, EXPECTED, MUST, asked, check
from reports import controls
from reports.record import Comparison, Data, Record
from reports.wording import distils, points, span
from teachers.data import datasets
from teachers.files import write_whole
from teachers.methods import TeacherRecipe, default_recipe, method
from teachers.methods.training import default_student
from teachers.names import CLASS_MEANS, PERMUTED
from teachers.storage.store import default_cache
from teachers.targets.runtime import Runtime
from teachers.targets.teaching import BORN_AGAIN_SEED, taught

ROOT = Path(__file__).resolve().parent.parent
DOCS, RESULTS = ROOT / "docs" / "selftest.md", ROOT / "benchmarks" / "selftest.json"
BEGIN, END = "<!-- from benchmarks/selftest.py -->", "<!-- to here -->"
COOL, FIVE = "permuted-4", "five-twins"
TEACHERS = (*EXPECTED, COOL, CLASS_MEANS, FIVE)


class Found(Data):
    """What an audit of a teacher found, as the tables say it."""

    design: int
    accuracy: str
    word: str
    required: str
    margins: dict[str, str]  # of each attack over its control
    controls: tuple[str, ...]  # the adaptive attack's margins over each kind; empty: it was not judged
    decoded: str

    @classmethod
    def of(cls, name: str, record: Record) -> Found:
        """Read a record."""
        rows = {row.attack: row for row in record.comparisons}
        adaptive = rows["adaptive"]
        return cls(
            design=record.design,
            accuracy=f"{100 * record.teacher.test_accuracy:.1f}",
            word=record.verdict.word,
            required=required(name, record),
            margins={attack: told(row, record) for attack, row in rows.items()},
            controls=tuple(controls.cells(adaptive)) if adaptive.margins else (),
            decoded="; ".join(record.decoded(adaptive)) or "nothing",
        )


Kept = TypeAdapter(dict[str, Found])


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
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--out", type=Path, default=Path("audit-out/selftest"))
    given = parser.parse_args()
    kept = Kept.validate_json(RESULTS.read_bytes())
    for name in filter(None, given.only.split(",")):
        options = asked(name, jobs=given.jobs, cache=given.cache, out=given.out)
        options = OTHERS[name](options) if name in OTHERS else options
        kept[name] = Found.of(name, run(options, command="python benchmarks/selftest.py").record)
        kept = {name: kept[name] for name in TEACHERS if name in kept}
        write_whole(RESULTS, Kept.dump_json(kept, indent=1))
    head, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    DOCS.write_text(f"{head}{BEGIN}\n{tables(kept)}\n{END}{tail}", encoding="utf-8")


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


def tables(kept: dict[str, Found]) -> str:
    """Return a table of words and margins, and one of the adaptive attack's margins over each kind of control."""
    attacks = suite(EFFORT).attacks
    heads = ("teacher", "accuracy, %", "word", "as required", *attacks)
    lines = [_row(heads), _row(["---"] * len(heads))]
    for name, found in kept.items():
        margins = [found.margins.get(attack, "–") for attack in attacks]
        lines.append(_row([f"`{name}`", found.accuracy, found.word, found.required, *margins]))
    lines += ["", _row(["teacher", *controls.HEADS.values(), "decoded"]), _row(["---"] * (2 + len(controls.HEADS)))]
    lines += [_row([f"`{name}`", *found.controls, found.decoded]) for name, found in kept.items() if found.controls]
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
