"""The positive controls: every registered attack on the ordinary teacher, as an audit measures it.

Writes docs/bites.md, and attacks/measured.json for `audit info`. Resumable: students are kept in the cache, and audits
in OUT.

    python benchmarks/bites.py [--seeds 10] [--jobs 2] [--cache DIR] [--out OUT] [--only plain,small]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

from attacks import registry
from audit.pipeline import run
from audit.plan.options import Options
from audit.plan.suite import EFFORTS, FULL, LARGE, STANDARD, Suite
from audit.statistics.compare import holm
from reports import wording
from reports.record import Comparison, Cost, Record, load
from teachers.storage.store import default_cache

ROOT = Path(__file__).resolve().parent.parent
DOCS, MEASURED = ROOT / "docs" / "bites.md", ROOT / "attacks" / "measured.json"

NOTES = {
    "noise": "uniform pixels, 20,000 queries, as MAZE's baseline: one setting.",
    "skeptical": (
        "on validation, 3 seeds, over the better LS student: default −1.9, `shallow=1` −4.0, `shallow=1, "
        "weight=0.5, temperature=2` −3.3, `weight=0.5, temperature=2` −1.9, `delay=0.5` +0.2. The published "
        "coupling (neither detached nor scaled by T²) was kept. It earns its place on a nasty teacher (resistant.md)."
    ),
    "label-kd": "passes where labels are scarce (its own baseline); with all labels known it is close to its control.",
    "label-mixup": "students of mixed images lag far behind at 400 steps; its own baseline has the labels of a tenth.",
    "jbda": "images moved along the clone's gradient soon outweigh real ones; one round of a small step is best.",
    "mlkd": ("summed over temperatures, as published for a small rate, students collapse (3.9 %): it averages here."),
    "rolewise": (
        "`student='strong'` −10.7 ± 1.0 on validation (3 seeds): strong views are too hard for 400 steps, so "
        "students see crops."
    ),
    "function-matching": "mixed strong crops −5.2 ± 0.3 on validation (2 seeds): plain mixes by default.",
    "dfme": (
        "the paper's batch of 256 leaves 139 steps at 50,000 queries (2.5 %); without replay 8.2 %, with it 16.6 %."
    ),
    "maze": "ten directions 8.0 %, one 12.7 %; Adam for the generator is no gain.",
    "disguide": "the paper's batch of 256 gave 11.8 %, 64 gives 20.7 % (validation, one seed).",
    "scm": (
        "not implemented: the loss of Jandial et al. (ECCV 2022) could not be found; the authors' repository "
        "holds no code."
    ),
}

HEAD = """# The positive controls

`python benchmarks/bites.py` ran every attack against the *ordinary teacher* of the embedded task (plain cross
entropy, full probabilities). An attack *passes* this [positive control](glossary.md#positive-control) if it gains
there. An attack that fails it is no evidence that another teacher resists.

{task}

Attacks on original images: margin over the tuned LS student (matched in steps, views and heads), in points, with
two-sided 95 % intervals over training seeds and test images. p is one-sided, after Holm's correction over all
{holm} attacks of this table. {significant} of the {original} attacks on original images gain significantly.
"""

QUERIES = """
Attacks without original images: the accuracy of the student at the largest and at the smallest budget. Such an
attack passes if the accuracy at the largest budget is above that of always naming the largest class, and above that
at the smallest budget, at 95 %, one-sided. *Apart*: the 95 % interval at the largest budget is above that at the
smallest.
"""


@dataclass(frozen=True)
class Group:
    """An audit of the demo teacher with some of the attacks."""

    folder: str
    data: str
    surface: str
    suite: Suite
    attacks: tuple[str, ...]


def groups() -> tuple[Group, ...]:
    """Return every registered attack under the surface that it needs; query-extreme ones on the smaller task."""
    needs = {a.name: a.needs for a in registry.OURS}
    small = ("zsdb3kd",)
    explained = tuple(n for n, need in needs.items() if need == "gradients")
    plain = tuple(n for n in needs if n not in (*small, *explained, *LARGE))
    standard, full = (replace(s, name=f"{s.name}, 5 seeds a curve", query_seeds=5) for s in (STANDARD, FULL))
    return (
        Group("plain", "glyphs", "probs", standard, plain),
        Group("explained", "glyphs", "gradients", standard, explained),
        Group("small", "digits", "probs", standard, small),
        Group("large", "glyphs", "probs", full, LARGE),  # three budgets
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(group.folder for group in groups()))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--out", type=Path, default=Path("audit-out/bites"))
    given = parser.parse_args()
    tuned = [group for group in groups() if group.folder in given.only.split(",")]
    records = [audit(group, given.seeds, given.jobs, given.cache, given.out) for group in tuned]
    DOCS.write_text(table(records), encoding="utf-8")
    sentences = {row.attack: sentence(row, record) for record in reversed(records) for row in record.comparisons}
    sentences |= {row.attack: alone(row, records[0]) for row in records[0].controls if row.attack in registry.CONTROLS}
    MEASURED.write_text(json.dumps(dict(sorted(sentences.items())), indent=1) + "\n", encoding="utf-8")


def audit(group: Group, seeds: int, jobs: int, cache: Path, out: Path) -> Record:
    """Run one audit, or read it where it is finished."""
    folder = out / group.folder
    EFFORTS["bites"] = replace(group.suite, seeds=seeds, most=None)  # all seeds, whatever is sure before
    request = Options(
        teacher="demo",
        data=group.data,
        effort="bites",
        attacks=",".join(group.attacks),
        surface=group.surface,
        jobs=jobs,
        cache=cache,
        out=folder,
    )
    run(request, command="python benchmarks/bites.py")
    return load(folder)


def table(records: list[Record]) -> str:
    """Write the page."""
    rows = [(row, record) for record in records for row in record.comparisons]
    rows = [pair for i, pair in enumerate(rows) if pair[0].attack not in {r.attack for r, _ in rows[:i]}]
    adjusted = dict(
        zip((r.attack for r, _ in rows), holm([r.margin.p if r.margin else 1.0 for r, _ in rows]), strict=True)
    )
    original = [(r, record) for r, record in rows if r.holds == "original"]
    others = [(r, record) for r, record in rows if r.holds != "original"]
    main_ = records[0]
    significant = sum(adjusted[r.attack] < main_.verdict.alpha and r.margin is not None for r, _ in original)
    suite = main_.suite
    said = (
        f"`{main_.task.name}`, {main_.task.test:,} test images",
        f"teacher {wording.percent(main_.teacher.test_accuracy)}",
        f"student {main_.settings.student}",
        f"{suite.seeds} judged seeds",
        f"recipe of {suite.name}",
        f"level {main_.verdict.alpha:g}",
        f"tuned on validation over at most {suite.settings} settings × {suite.tuning_seeds} seeds, the LS student too",
    )
    task = ", ".join(said) + "."
    parts = [HEAD.format(task=task, holm=len(rows), significant=significant, original=len(original))]
    parts.append(
        "| attack | needs | chosen settings | LS % | knockoff % | margin, points | Holm p | positive control |"
    )
    parts.append("|---|---|---|---|---|---|---|---|")
    parts += [_original(r, adjusted[r.attack]) for r, _ in sorted(original, key=lambda pair: _rank(pair[0]))]
    parts.append(QUERIES)
    parts.append(
        "| attack | holds, needs | task | seeds | queries | accuracy, % | fewest | their accuracy, % | apart "
        "| positive control |"
    )
    parts.append("|---|---|---|---|---|---|---|---|---|---|")
    parts += [_queried(r, record) for r, record in others]
    parts.append(
        "\n## No-victim baselines\n\n"
        "These students have no teacher; they are compared with the LS student with the plain recipe:\n"
    )
    parts.append("| control | chosen settings | accuracy, % | over the LS student, points |")
    parts.append("|---|---|---|---|")
    parts += [_baseline(r) for r in main_.controls]
    missing = [a.name for a in registry.OURS if a.name not in adjusted]
    if missing:
        parts.append(f"\nRegistered, and not measured in this run: {', '.join(missing)}.")
    noted = [f"- **{name}**: {note}" for name, note in sorted(NOTES.items())]
    if noted:
        parts += ["\n## What was tried\n", *noted]
    return "\n".join(parts) + "\n"


def _rank(row: Comparison) -> float:
    return 1.0 if row.margin is None else -row.margin.mean


def _original(row: Comparison, p: float) -> str:
    if row.margin is None:
        told = f"{row.status}: {row.reason}" if row.reason else row.status
        return f"| {row.attack} | {row.needs} | – | – | – | {told} | – | {_bites(row)} |"
    cells = (
        row.attack,
        row.needs,
        wording.parameters(row.knockoff.parameters),
        f"{100 * (row.control.accuracy or 0):.1f}",
        f"{100 * (row.knockoff.accuracy or 0):.1f}",
        f"{wording.points(row.margin.mean)} {wording.span(row.margin)}",
        wording.probability(p).replace("<", "&lt;"),
        _bites(row),
    )
    return f"| {' | '.join(cells)} |"


def _bites(row: Comparison) -> str:
    found = row.positive_control
    if found is None:
        return "not known"
    if found.baseline != "LS student" and row.holds == "original":
        return f"{wording.positive_control(row)} ({wording.points(found.margin.mean)} over the {found.baseline})"
    return wording.positive_control(row)


def _queried(row: Comparison, record: Record) -> str:
    curve = wording.curve(row)
    name, told = row.attack, f"{row.holds}, {row.needs}"
    if len(curve) < 2:
        return (
            f"| {name} | {told} | {record.task.name} | – | – | {row.status}: {row.reason} | – | – | – | {_bites(row)} |"
        )
    least, most = curve[0], curve[-1]
    apart = "yes" if most.accuracy.low > least.accuracy.high else "no"
    cells = (name, told, record.task.name, str(most.accuracy.seeds), f"{most.queries:,}", _accuracy(most))
    return f"| {' | '.join(cells)} | {least.queries:,} | {_accuracy(least)} | {apart} | {_bites(row)} |"


def _accuracy(point: Cost) -> str:
    return f"{100 * point.accuracy.mean:.1f} [{100 * point.accuracy.low:.1f}, {100 * point.accuracy.high:.1f}]"


def _baseline(row: Comparison) -> str:
    margin = "–" if row.margin is None else f"{wording.points(row.margin.mean)} {wording.span(row.margin)}"
    parameters, accuracy = wording.parameters(row.knockoff.parameters), 100 * (row.knockoff.accuracy or 0)
    return f"| {row.attack} | {parameters} | {accuracy:.1f} | {margin} |"


def sentence(row: Comparison, record: Record) -> str:
    """Say in a sentence what was measured, for `audit info`."""
    passed = wording.positive_control(row).replace(wording.MISSING, "not known")
    control = f"positive control: {passed}"
    where = f"ordinary teacher on {record.task.name}, {record.suite.seeds} seeds"
    curve = wording.curve(row)
    if row.holds != "original" and curve:
        first, last = curve[0], curve[-1]
        return (
            f"{_accuracy(last)} % accuracy at {last.queries:,} queries, {_accuracy(first)} % at {first.queries:,} "
            f"({where.replace(str(record.suite.seeds), str(last.accuracy.seeds))}); {control}"
        )
    if row.margin is None:
        return f"{row.status} {row.reason} ({where}); {control}"
    margin = f"{wording.points(row.margin.mean)} points {wording.span(row.margin)}"
    return f"margin {margin} over the LS student ({where}); {control}"


def alone(row: Comparison, record: Record) -> str:
    """Say in a sentence what a no-victim baseline reached, for `audit info`."""
    assert row.margin is not None
    margin = f"{wording.points(row.margin.mean)} points {wording.span(row.margin)}"
    return f"{margin} over the LS student, without a teacher ({record.task.name}, {record.suite.seeds} seeds)"


if __name__ == "__main__":
    main()
