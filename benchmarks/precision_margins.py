"""Margins with bfloat16 against those with float32: the same attacks and LS students, seed by seed.

    python benchmarks/precision_margins.py --teacher FILE [--data NAME] [--shots 0.1] [--attacks dist dkd] [--seeds 5]

The default settings are trained, and measured on validation images. Intervals (95 %) are those of an audit's margins,
over training seeds and images.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from attacks import registry
from audit.context import open_context, workbench
from audit.plan.options import Options
from audit.plan.suite import STANDARD, Suite
from audit.statistics.compare import Correct, Margin, differing, paired
from audit.trials.protocol import StudentTrials
from teachers.precision import BFLOAT16, FLOAT32, Precision

Answered = dict[str, Correct]  # by technique: what students classify correctly, (S, N)


def answered(options: Options, names: list[str], seeds: int, like: Suite = STANDARD) -> tuple[Answered, float]:
    """Return what students classify correctly, and their mean seconds in training steps."""
    suite = replace(like, tuning_seeds=seeds, finalists=None)
    with tempfile.TemporaryDirectory() as out, open_context(options, other=suite) as context:
        target, experiment = context.targets.audited, context.experiment
        runner = workbench(context, Path(out), [target])
        trials = StudentTrials(experiment, experiment.design({}), runner, {"audited": target})
        ls = trials.design.sweep()[0]
        known = registry.attacks()
        arms = {"ls": ls} | {name: replace(ls, technique=known[name](), target="audited") for name in names}
        with closing(runner.executor):
            trials.train("students", [*arms.values()])
        found = {name: trials.arrays.tuning(trials.keys(arm)) for name, arm in arms.items()}
        spent = [runner.results[key].step_seconds for arm in arms.values() for key in trials.keys(arm)]
        return found, float(np.mean(spent))


def told(margin: Margin) -> str:
    """Return a margin in points, with its interval."""
    low, high = margin.interval()
    return f"{100 * margin.mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="demo")
    parser.add_argument("--data")
    parser.add_argument("--shots", type=float, default=1.0)
    parser.add_argument("--student", default="")
    parser.add_argument("--attacks", nargs="+", default=["dist", "dkd"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    found: dict[Precision, tuple[Answered, float]] = {}
    for precision in get_args(Precision):
        options = Options(
            teacher=args.teacher,
            data=args.data,
            shots=args.shots,
            student=args.student,
            attacks=",".join(args.attacks),
            precision=precision,
            cache=args.cache,
        )
        found[precision] = answered(options, args.attacks, args.seeds)
    (plain, long), (fast, short) = found[FLOAT32], found[BFLOAT16]
    print(f"{args.seeds} seeds; a student's steps took {long:.1f} s with float32, {short:.1f} s with bfloat16\n")
    print("| student | float32 | bfloat16 | difference |\n|---|---|---|---|")
    for name in plain:
        before, now = plain[name], fast[name]
        print(f"| {name}: accuracy | {before.mean():.2%} | {now.mean():.2%} | {told(paired(now, before))} |")
    for name in args.attacks:
        mine, theirs = (fast[name], fast["ls"]), (plain[name], plain["ls"])
        margins = paired(*theirs), paired(*mine), differing(mine, theirs)
        print(f"| {name}: margin over ls | {' | '.join(map(told, margins))} |")


if __name__ == "__main__":
    main()
