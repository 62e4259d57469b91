"""Try settings of an attack on validation images: accuracy, and margin over the best LS student, paired by seed.

For whoever writes or tunes an attack. Nothing here sees the test split. Controls come from the cache; the attack's own
students are always trained anew, because its code may have changed.

    python benchmarks/attempt.py dkd dkd:beta=2.0 "dkd:beta=2.0,temperature=1.0" [--surface top:1] [--seeds 3]
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attacks.base import Attack, Technique
from attacks.registry import find
from audit.context import open_context
from audit.execution.runner import TrialRunner
from audit.pipeline import workbench
from audit.plan.design import Arm
from audit.plan.options import Options
from audit.plan.suite import STANDARD
from audit.trials.protocol import Experiment, StudentTrials, validation_accuracy
from teachers.storage.store import default_cache
from teachers.targets.target import Target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--teacher", default="demo")
    parser.add_argument("--data")
    parser.add_argument("--surface", default="probs")
    parser.add_argument("--shots", type=float, default=1.0)
    parser.add_argument("--budget", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=default_cache())
    given = parser.parse_args()
    request = Options(
        teacher=given.teacher,
        data=given.data,
        surface=given.surface,
        shots=given.shots,
        budget=given.budget,
        jobs=given.jobs,
        cache=given.cache,
    )
    settings = {text: parse(text) for text in given.settings}
    with bed(request, settings.values(), given.seeds) as (experiment, runner, target):
        for text, setting in settings.items():
            print(f"{text:<40} {attempt(experiment, runner, target, setting)}", flush=True)


@contextmanager
def bed(
    request: Options, settings: Iterable[Technique], seeds: int
) -> Iterator[tuple[Experiment, TrialRunner, Target]]:
    """Lay out what attempts on a teacher take, as the standard suite does."""
    assert request.cache is not None
    names = ",".join(dict.fromkeys(s.name for s in settings if isinstance(s, Attack))) or "all"
    with open_context(replace(request, attacks=names), other=replace(STANDARD, tuning_seeds=seeds)) as context:
        runner = workbench(context, request.cache / "attempts")
        with closing(runner.executor):
            yield context.experiment, runner, context.targets.audited


def parse(text: str) -> Technique:
    """Read `name:field=value,field=value`."""
    name, _, fields = text.partition(":")
    pairs = (field.partition("=") for field in fields.split(",") if field)
    return find(name)(**{field: ast.literal_eval(value) for field, _, value in pairs})


@dataclass(frozen=True)
class Attempt:
    """What students of a setting got on validation images, and the LS students they must beat, by seed, (S,)."""

    accuracy: NDArray[np.float64]
    control: NDArray[np.float64]
    best: Arm
    queries: int
    seconds: float
    failure: str = ""

    @property
    def margin(self) -> NDArray[np.float64]:
        """Points over the LS student, (S,)."""
        return 100 * (self.accuracy - self.control)

    def __str__(self) -> str:
        if self.failure:
            return f"failed: {self.failure}"
        error = self.margin.std(ddof=1) / len(self.margin) ** 0.5 if len(self.margin) > 1 else np.nan
        reached, without = 100 * self.accuracy.mean(), 100 * self.control.mean()
        return (
            f"{reached:5.1f} %  LS {without:5.1f} % {self.best.technique.parameters}  "
            f"margin {self.margin.mean():+.2f} ± {error:.2f}  queries {self.queries:,}  {self.seconds:.1f} s a student"
        )


def attempt(
    experiment: Experiment, runner: TrialRunner, target: Target, setting: Technique, *, anew: bool = True
) -> Attempt:
    """Train the students of a setting, and the LS students that they must beat."""
    asks = target.role if isinstance(setting, Attack) else None
    trials = StudentTrials(experiment, experiment.design({}), runner, {target.role: target})
    controls = trials.design.sweep()
    trials.train("ls", controls)
    mine = Arm(setting, experiment.recipe, controls[0].seeds, target=asks)
    for cell in trials.cells(mine) if anew else []:
        runner.cache.forget(cell)
    runner.train(setting.name, [replace(use, kind="attack") for use in trials.uses([mine])])
    if failure := trials.failure(mine):
        nothing = np.zeros(0)
        return Attempt(nothing, nothing, controls[0], 0, 0.0, f"{failure.sentence}\n{failure.trace}")
    if getattr(setting, "holds", "original") == "original":
        controls += trials.design.sweep(trials.regime(mine))
        trials.train("matched ls", controls)
    best = trials.best(controls)
    assert best is not None, "LS students do not fail"
    results = [runner.results[key] for key in trials.keys(mine)]
    seconds = float(np.mean([r.seconds for r in results]))
    return Attempt(accuracy(trials, mine), accuracy(trials, best), best, results[0].charged, seconds)


def accuracy(trials: StudentTrials, arm: Arm) -> NDArray[np.float64]:
    """Return the validation accuracy of an arm's students by seed."""
    results = (trials.runner.results[key] for key in trials.keys(arm))
    return np.array([validation_accuracy(trials.experiment, r) for r in results])


if __name__ == "__main__":
    main()
