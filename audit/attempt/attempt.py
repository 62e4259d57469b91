"""Train an attack's students on the ordinary teacher, and the students that it must beat, paired by seed.

Only validation images are used: whoever tunes an attack by what this shows has not seen the test split.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attacks.base import Attack
from attacks.registry import CONTROLS
from audit.analysis.derive import passes
from audit.attempt import local
from audit.attempt.settings import changed, written
from audit.context import open_context, workbench
from audit.plan.cells import Result
from audit.plan.design import TENTH, Arm, labels_only
from audit.plan.options import Options
from audit.plan.suite import cost_shares, suite
from audit.statistics.compare import Margin, above, paired
from audit.statistics.sequential import HORIZON
from audit.trials.preparation import pick
from audit.trials.protocol import StudentTrials
from teachers.errors import AuditError, NothingAudited, UsageError
from teachers.proportions import majority
from teachers.surface import FULL, Surface


@dataclass(frozen=True)
class Attempt:
    """An attack's students on validation images, and the students that they must beat, over S seeds."""

    setting: Attack
    data: str
    student: str
    surface: str
    accuracy: NDArray[np.float64]  # (S,)
    control: NDArray[np.float64]  # (S,); of always naming the largest class, without original images
    against: str  # what the control is
    margin: Margin
    passes: bool  # the positive control, or on another surface what corresponds to it
    queries: int  # at most, of one student
    seconds: float  # of one student, on average


def attempt(options: Options, name: str, assignments: Sequence[str] = (), seeds: int = 3) -> Attempt:
    """Try one attack on the ordinary teacher of the named data; its students are always trained anew.

    `name` as `local.known` takes it; `assignments` (FIELD=VALUE) change its default setting. An empty surface is the
    one of the positive control. Raises UsageError for an unknown name, field or value, or a surface that shows less
    than the attack needs; NothingAudited if a student fails.
    """
    if not 2 <= seeds <= HORIZON:
        raise UsageError(f"--seeds {seeds}: an interval needs at least 2, and at most {HORIZON} are tried")
    with local.known(name) as known_name:
        selection = pick(known_name, suite(options.effort))
        if len(selection.attacks) != 1:
            raise UsageError(f"{name} names {len(selection.attacks)} attacks; give one")
        (attack,) = selection.attacks.values()
        setting = changed(selection.presets.get(attack.name) or attack(), assignments)
        surface = options.surface or ("gradients" if attack.needs == "gradients" else FULL.name)
        if not Surface.parse(surface).offers(attack.needs):
            raise UsageError(f"{attack.name} needs {attack.needs}, and --surface {surface} does not show them")
        with bed(replace(options, attacks=attack.name, surface=surface), seeds) as trials:
            return measured(trials, setting)


@contextmanager
def bed(options: Options, seeds: int) -> Iterator[StudentTrials]:
    """Open what options name with so many tuning seeds; yield what training students of its teacher takes."""
    tried = replace(suite(options.effort), tuning_seeds=seeds, finalists=None)
    with tempfile.TemporaryDirectory(prefix="distill-audit-") as out, open_context(options, other=tried) as context:
        runner, target, experiment = workbench(context, Path(out)), context.targets.audited, context.experiment
        with closing(runner.executor):
            yield StudentTrials(experiment, experiment.design({}), runner, {target.role: target})


def measured(trials: StudentTrials, setting: Attack, *, anew: bool = True) -> Attempt:
    """Train the students of a setting, and those that they must beat in an audit's positive control.

    Raises NothingAudited or UsageError if a student fails, with the traceback of the attack's code as a note.
    """
    design, (target,) = trials.design, trials.targets.values()
    scarce, sweep = labels_only(type(setting)), design.sweep()
    attack = replace(sweep[0], technique=setting, target=target.role, tenth=scarce)
    results = _train(trials, setting.name, (attack,), anew=anew)
    mine, rises = trials.arrays.tuning(trials.keys(attack)), None
    if setting.holds == "original":
        tried = tuple(replace(ls, tenth=True) for ls in sweep) if scarce else design.controls(trials, attack)
        _train(trials, "controls", tried, anew=anew)
        best = trials.best(tried)
        assert best is not None
        control = trials.arrays.tuning(trials.keys(best))
        margin, against = paired(mine, control), f"{best.name} ({written(best.technique)})"
        against += f" on {TENTH:.0%} of the labels" * scarce
    else:
        largest = majority(trials.arrays.validation_labels[trials.arrays.tuned])
        margin, against = above(mine, largest), "always naming the largest class"
        control = np.full((len(mine), 1), largest)
        share = cost_shares(design.suite.budgets)[0]
        fewer = replace(attack, budget=max(1, round(max(r.charged for r in results) * share)))
        _train(trials, setting.name, (fewer,), anew=anew)
        rises = paired(mine, trials.arrays.tuning(trials.keys(fewer)))
    return Attempt(
        setting=setting,
        data=trials.experiment.task.name,
        student=trials.experiment.recipe.architecture,
        surface=target.surface.name,
        accuracy=mine.mean(1),
        control=control.mean(1),
        against=against,
        margin=margin,
        passes=passes(margin, rises),
        queries=max(r.charged for r in results),
        seconds=float(np.mean([r.seconds for r in results])),
    )


def _train(trials: StudentTrials, name: str, arms: Sequence[Arm], *, anew: bool) -> list[Result]:
    """Train students; `anew`: also an attack's that the cache holds, because its code may have changed."""
    runner, cells = trials.runner, [cell for arm in arms for cell in trials.cells(arm)]
    for cell in cells:
        if anew and cell.technique not in CONTROLS:
            runner.cache.forget(cell)
    trials.train(name, arms)
    failure = trials.failure(*arms)
    if failure is not None:
        sentence = f"{failure.cell.technique} failed: {failure.sentence}"
        error: AuditError = UsageError(sentence) if failure.code == UsageError.exit_code else NothingAudited(sentence)
        error.add_note(failure.trace)
        raise error
    return [runner.results[cell.key] for cell in cells]
