"""`audit cache warm`: train all controls of a task in advance, so that audits of its teachers train no control."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from audit import pipeline
from audit.context import RunContext, open_context
from audit.execution.runner import TrialRunner
from audit.plan.cells import Use
from audit.plan.options import Options
from audit.plan.suite import LONGER
from audit.trials import judging, phases, protocol
from audit.trials.preparation import for_students
from audit.trials.protocol import ControlCandidate, Experiment, StudentArm, offered
from teachers.surface import FULL


@dataclass(frozen=True)
class WarmSummary:
    """Numbers of students that were trained now and that were in the cache already."""

    trained: int
    reused: int


def warm(options: Options) -> WarmSummary:
    """Train the ordinary teacher, and the controls of every setting that tuning may choose, at all seeds.

    An audit trains controls only for the setting that is best for its teacher, and only until all attacks are decided.
    The next release may need another setting and more seeds. Here the ordinary teacher replaces the audited one.
    """
    with (
        open_context(replace(options, surface=FULL.name), ordinary=True) as context,
        tempfile.TemporaryDirectory(prefix="distill-audit-") as out,
    ):
        runner = pipeline.workbench(context, Path(out))
        with closing(runner.executor):
            pipeline.ask(context, runner)
            for experiment in for_students(context.experiment):
                _warm(experiment, runner, context)
        return WarmSummary(len(runner.trained), len(runner.results) - len(runner.trained))


def _warm(experiment: Experiment, runner: TrialRunner, context: RunContext) -> None:
    ordinary = context.targets.ordinary
    attacks = offered(context.targets, context.selection.attacks)[ordinary.role]
    every = [setting for attack in attacks.values() for setting in protocol.settings(experiment, attack)]
    runner.train("tuning", phases.tuning_uses(experiment, [ordinary], {ordinary.role: attacks}))
    tried = [protocol.candidates(experiment, runner, ordinary, setting) for setting in every]
    runner.train(
        "matching controls",
        protocol.candidate_uses(experiment, [candidate for candidates in tried for candidate in candidates]),
    )
    best = protocol.best_settings(experiment, runner, ordinary, attacks)
    arm = StudentArm(experiment, {ordinary.role: protocol.choose(experiment, runner, ordinary, best)})
    controls = [*_longer(experiment, runner), *_judged(experiment, runner, tried)]
    runner.train("controls", controls + judging.beside(arm, runner, ordinary))
    costs = (protocol.cost_uses(experiment, runner, c, ordinary) for c in arm.settled[ordinary.role].values())
    runner.train("smaller budgets", [use for uses in costs for use in uses])


def _longer(experiment: Experiment, runner: TrialRunner) -> list[Use]:
    """Return the LS tuning students with more steps; none where a single seed chooses the settings."""
    if experiment.suite.tuning_seeds < 2:
        return []
    longer = replace(
        protocol.best_ls(experiment, runner), recipe=replace(experiment.recipe, steps=LONGER * experiment.recipe.steps)
    )
    return protocol.candidate_uses(experiment, [longer])


def _judged(experiment: Experiment, runner: TrialRunner, tried: Iterable[Sequence[ControlCandidate]]) -> list[Use]:
    """Return the controls of each setting, at the largest number of judged seeds."""
    best = (protocol.best_candidate(experiment, runner, candidates) for candidates in tried)
    cells = (
        cell for candidate in best for cell in protocol.candidate_cells(experiment, candidate, range(experiment.most))
    )
    return [Use(cell, "judge", None, "control") for cell in cells]
