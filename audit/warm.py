"""`audit cache warm`: train all controls of a task in advance, so that audits of its teachers train no control."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from audit.context import RunContext, ask, open_context, workbench
from audit.execution.runner import TrialRunner
from audit.plan.design import Pair, chosen
from audit.plan.options import Options
from audit.trials.preparation import for_students
from audit.trials.protocol import Experiment, by_role, trials
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
        runner = workbench(context, Path(out))
        with closing(runner.executor), context.progress.during("training controls"):
            ask(context, runner, context.targets.audited)
            for experiment in for_students(context.experiment):
                _warm(experiment, runner, context)
        return WarmSummary(len(runner.trained), len(runner.results) - len(runner.trained))


def _warm(experiment: Experiment, runner: TrialRunner, context: RunContext) -> None:
    found = trials(experiment, runner, by_role(context.targets), context.selection.attacks)
    design, attacks = found.design, found.design.attacks[found.design.ordinary].values()
    found.tune("tuning", design.tuning())
    every = [setting for attack in attacks for setting in design.settings(attack, design.ordinary)]
    tried = [design.controls(found, setting) for setting in every]
    twins = [arms for attack in attacks if len(arms := design.twins(attack)) > 1]
    found.tune("matching controls", [control for controls in (*tried, *twins) for control in controls])
    best = [Pair(setting, arm) for setting, arms in zip(every, tried, strict=True) if (arm := chosen(found, arms))]
    beaten = [arm for pair in best for arm in (pair.control, *design.rivals(found, pair).values())]
    judged = [arm.on("judge", experiment.most) for arm in beaten]
    home = [arm for pair in found.pairs[design.ordinary].values() if (arm := design.home(pair)) is not None]
    beside = [*design.beside(found, found.pairs), *home]
    found.train("controls", [*design.longer_ls(found), *judged, *beside])
    found.train("smaller budgets", design.cheaper(found, found.pairs))
