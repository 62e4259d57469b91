"""The positive controls: every registered attack on the ordinary teacher, as an audit measures it.

There is an audit for every family of attacks. Keeps what they found in benchmarks/bites.json, and writes from all that
is kept docs/bites.md, and attacks/measured.json for `audit info`. Resumable: students are kept in the cache, audits in
OUT, and families that are not run again in the file. `--only=` writes the pages alone.

    python benchmarks/bites.py [--seeds 10] [--jobs 2] [--cache DIR] [--out OUT] [--only logits,small]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from attacks import registry
from audit.pipeline import run
from audit.plan.options import Options
from audit.plan.suite import EFFORTS, FULL, LARGE, STANDARD, Suite
from audit.statistics.compare import holm
from reports import controls, wording
from reports.record import Comparison, Cost, Data, Over, Record, SuiteInfo, load
from teachers.files import write_whole
from teachers.storage.store import default_cache

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "bites.json"
DOCS, MEASURED = ROOT / "docs" / "bites.md", ROOT / "attacks" / "measured.json"

OVER: tuple[Over, ...] = ("ls", "own loss", "twin")  # the first of controls.HEADS: the kinds that the rules ask for
NOTES = {
    "adaptive": (
        "where only the first 5,272 of 24,800 answers tell (`stateful`), a student that sees the first two views alone "
        "is 1.9, 1.8 and 1.6 points worse on validation (3 settings, 4 seeds each) than one that sees all eight, with "
        "what the image's other views told in place of what was not told."
    ),
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

Attacks on original images: margins in points over each control (tuned, and matched in steps, views and heads), with
two-sided 95 % intervals over training seeds and test images. [verdict.md](verdict.md) says what the controls are. p is
one-sided, that of the control over which an attack is least sure to gain, after Holm's correction over all {holm}
attacks of this page. {significant} of the {original} attacks on original images gain significantly over all of their
controls.
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


class Measured(Data):
    """What the page tells of a group's audit."""

    task: str
    images: int
    teacher: float  # test accuracy
    student: str
    suite: SuiteInfo
    alpha: float
    comparisons: tuple[Comparison, ...]
    controls: tuple[Comparison, ...]

    @classmethod
    def of(cls, record: Record) -> Measured:
        """Keep a record's rows, without its students."""
        return cls(
            task=record.task.name,
            images=record.task.test,
            teacher=record.teacher.test_accuracy,
            student=record.settings.student,
            suite=record.suite,
            alpha=record.verdict.alpha,
            comparisons=record.comparisons,
            controls=record.controls,
        )


KEPT = TypeAdapter(dict[str, Measured])  # by folder


def groups() -> tuple[Group, ...]:
    """Return every registered attack: by family, under the surface that it needs, query-extreme ones apart."""
    needs = {a.name: a.needs for a in registry.OURS}
    small = ("zsdb3kd",)
    explained = tuple(n for n, need in needs.items() if need == "gradients")
    apart = {*small, *explained, *LARGE}
    standard, full = (replace(s, name=f"{s.name}, 5 seeds a curve", query_seeds=5) for s in (STANDARD, FULL))
    families = {f.__name__.rpartition(".")[2]: tuple(a.name for a in f.ATTACKS) for f in registry.FAMILIES}
    return (
        *(
            Group(family, "glyphs", "probs", standard, names)
            for family, members in families.items()
            if (names := tuple(n for n in members if n not in apart))
        ),
        Group("explained", "glyphs", "gradients", standard, explained),
        Group("small", "digits", "probs", standard, small),  # a smaller task
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
    for group in groups():
        if group.folder in given.only.split(","):
            found = Measured.of(audit(group, given.seeds, given.jobs, given.cache, given.out))
            write_whole(RESULTS, KEPT.dump_json({**kept(), group.folder: found}, indent=1) + b"\n")
    measured = in_order(kept())
    if not measured:
        parser.error("nothing was measured yet; leave --only out")
    DOCS.write_text(table(measured), encoding="utf-8")
    MEASURED.write_text(json.dumps(sentences(measured), indent=1) + "\n", encoding="utf-8")


def kept() -> dict[str, Measured]:
    """Return what was measured up to now."""
    return KEPT.validate_json(RESULTS.read_bytes()) if RESULTS.exists() else {}


def in_order(measured: dict[str, Measured]) -> list[Measured]:
    """Return what was measured of today's groups, in their order."""
    return [measured[group.folder] for group in groups() if group.folder in measured]


def audit(group: Group, seeds: int, jobs: int, cache: Path, out: Path) -> Record:
    """Run one audit, or read it where it is finished."""
    folder = out / group.folder
    controls_ = group.suite.controls if group is groups()[0] else ()
    EFFORTS["bites"] = replace(group.suite, controls=controls_, seeds=seeds, most=None)  # all seeds, sure or not
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


def sentences(measured: list[Measured]) -> dict[str, str]:
    """Say in a sentence what was measured of every attack and baseline, for `audit info`."""
    told = {row.attack: sentence(row, of) for of in measured for row in of.comparisons}
    told |= {row.attack: alone(row, of) for of in measured for row in of.controls if row.attack in registry.CONTROLS}
    return dict(sorted(told.items()))


def table(measured: list[Measured]) -> str:
    """Write the page."""
    rows = [(row, of) for of in measured for row in of.comparisons]
    adjusted = dict(zip((r.attack for r, _ in rows), holm([least_sure(r) for r, _ in rows]), strict=True))
    original = [r for r, _ in rows if r.holds == "original"]
    others = [(r, of) for r, of in rows if r.holds != "original"]
    main_ = measured[0]
    significant = sum(adjusted[r.attack] < main_.alpha and r.margin is not None for r in original)
    suite = main_.suite
    said = (
        f"`{main_.task}`, {main_.images:,} test images",
        f"teacher {wording.percent(main_.teacher)}",
        f"student {main_.student}",
        f"{suite.seeds} judged seeds",
        f"recipe of {suite.name}",
        f"level {main_.alpha:g}",
        f"tuned on validation over at most {suite.settings} settings × {suite.tuning_seeds} seeds, the LS student too",
    )
    task = ", ".join(said) + "."
    parts = [HEAD.format(task=task, holm=len(rows), significant=significant, original=len(original))]
    heads = ["attack", "needs", "chosen settings", "LS %", "knockoff %", *(controls.HEADS[over] for over in OVER)]
    heads += ["Holm p", "positive control"]
    parts.append(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    parts += [_original(r, adjusted[r.attack]) for r in sorted(original, key=_rank)]
    parts.append(QUERIES)
    parts.append(
        "| attack | holds, needs | task | seeds | queries | accuracy, % | fewest | their accuracy, % | apart "
        "| positive control |"
    )
    parts.append("|---|---|---|---|---|---|---|---|---|---|")
    parts += [_queried(r, of) for r, of in others]
    parts.append(
        "\n## No-victim baselines\n\n"
        "These students have no teacher; they are compared with the LS student with the plain recipe:\n"
    )
    parts.append("| control | chosen settings | accuracy, % | over the LS student, points |")
    parts.append("|---|---|---|---|")
    parts += [_baseline(r) for of in measured for r in of.controls]
    missing = [a.name for a in registry.OURS if a.name not in adjusted]
    if missing:
        parts.append(f"\nRegistered, and not measured in this run: {', '.join(missing)}.")
    noted = [f"- **{name}**: {note}" for name, note in sorted(NOTES.items())]
    if noted:
        parts += ["\n## What was tried\n", *noted]
    return "\n".join(parts) + "\n"


def least_sure(row: Comparison) -> float:
    """Return the largest p of an attack's margins over the controls that the rules ask for; 1 without a margin."""
    over = [found.margin.p for kind in OVER if (found := row.margin_over(kind)) is not None]
    return max(over, default=1.0 if row.margin is None else row.margin.p)


def _rank(row: Comparison) -> float:
    return 1.0 if row.margin is None else -row.margin.mean


def _original(row: Comparison, p: float) -> str:
    if row.margin is None:
        told = f"{row.status}: {row.reason}" if row.reason else row.status
        return f"| {row.attack} | {row.needs} | – | – | – | {told} |{' – |' * len(OVER)} {_bites(row)} |"
    over_ls = row.margin_over("ls")
    cells = (
        row.attack,
        row.needs,
        wording.parameters(row.knockoff.parameters),
        wording.MISSING if over_ls is None else f"{100 * (over_ls.accuracy or 0):.1f}",
        f"{100 * (row.knockoff.accuracy or 0):.1f}",
        *controls.cells(row)[: len(OVER)],
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


def _queried(row: Comparison, of: Measured) -> str:
    curve = wording.curve(row)
    name, told = row.attack, f"{row.holds}, {row.needs}"
    if len(curve) < 2:
        return f"| {name} | {told} | {of.task} | – | – | {row.status}: {row.reason} | – | – | – | {_bites(row)} |"
    least, most = curve[0], curve[-1]
    apart = "yes" if most.accuracy.low > least.accuracy.high else "no"
    cells = (name, told, of.task, str(most.accuracy.seeds), f"{most.queries:,}", _accuracy(most))
    return f"| {' | '.join(cells)} | {least.queries:,} | {_accuracy(least)} | {apart} | {_bites(row)} |"


def _accuracy(point: Cost) -> str:
    return f"{100 * point.accuracy.mean:.1f} [{100 * point.accuracy.low:.1f}, {100 * point.accuracy.high:.1f}]"


def _baseline(row: Comparison) -> str:
    margin = "–" if row.margin is None else f"{wording.points(row.margin.mean)} {wording.span(row.margin)}"
    parameters, accuracy = wording.parameters(row.knockoff.parameters), 100 * (row.knockoff.accuracy or 0)
    return f"| {row.attack} | {parameters} | {accuracy:.1f} | {margin} |"


def sentence(row: Comparison, of: Measured) -> str:
    """Say in a sentence what was measured, for `audit info`."""
    passed = wording.positive_control(row).replace(wording.MISSING, "not known")
    control = f"positive control: {passed}"
    where = f"ordinary teacher on {of.task}, {of.suite.seeds} seeds"
    curve = wording.curve(row)
    if row.holds != "original" and curve:
        first, last = curve[0], curve[-1]
        return (
            f"{_accuracy(last)} % accuracy at {last.queries:,} queries, {_accuracy(first)} % at {first.queries:,} "
            f"({where.replace(str(of.suite.seeds), str(last.accuracy.seeds))}); {control}"
        )
    if row.margin is None:
        return f"{row.status} {row.reason} ({where}); {control}"
    found = [margin for over in OVER if (margin := row.margin_over(over)) is not None]
    margins = [f"{controls.told(margin)} {controls.HEADS[margin.over]}" for margin in found]
    return f"margins in points: {', '.join(margins)} ({where}); {control}"


def alone(row: Comparison, of: Measured) -> str:
    """Say in a sentence what a no-victim baseline reached, for `audit info`."""
    assert row.margin is not None
    margin = f"{wording.points(row.margin.mean)} points {wording.span(row.margin)}"
    return f"{margin} over the LS student, without a teacher ({of.task}, {of.suite.seeds} seeds)"


if __name__ == "__main__":
    main()
