"""Train what every release shares: no audit of another teacher on this task has to train a control after this."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from audit import run
from audit.cache.store import Cache
from audit.context import Ground, opened
from audit.execution.bench import Bench
from audit.plan.cells import Use
from audit.plan.request import Request
from audit.plan.suite import LONGER, suite
from audit.trials import judging, phases, protocol
from audit.trials.protocol import Rival, Setup, Side, offered
from audit.trials.setup import for_students
from teachers.names import DEMO
from teachers.storage.store import default_cache
from teachers.surface import FULL
from teachers.targets import target
from teachers.targets.target import Opening


@dataclass(frozen=True)
class Warmed:
    """Students that were trained now, and those that were there."""

    trained: int
    reused: int


def warm(request: Request) -> Warmed:
    """Train the controls of all settings that tuning may settle on, at the most judged seeds, and the ordinary teacher.

    An audit trains the controls of the setting that is best for its teacher, and of as many seeds as stay open: another
    release may settle on another setting, and stay open for longer. The ordinary teacher takes the audited one's place.
    """
    opening = _task_of(request)
    with (
        opened(replace(request, opening=opening, surface=FULL.name), suite(request.effort)) as ground,
        tempfile.TemporaryDirectory(prefix="distill-audit-") as out,
    ):
        bench = run.workbench(ground, Path(out))
        with closing(bench.executor):
            run.ask(ground, bench)
            for setup in for_students(ground.setup):
                _warm(setup, bench, ground)
        return Warmed(len(bench.trained), len(bench.results) - len(bench.trained))


def _task_of(request: Request) -> Opening:
    """Return the ordinary teacher on the task of the teacher that will be audited."""
    asked = request.opening
    task, weights = target.open_task(asked, Cache(request.cache or default_cache()))
    card = weights.card if weights else None
    data, size = asked.data or (card.data if card else None), asked.size or (card.size if card else None)
    return Opening(DEMO, data, size=size, channels=task.shape[0])


def _warm(setup: Setup, bench: Bench, ground: Ground) -> None:
    ordinary = ground.faculty.ordinary
    attacks = offered(ground.faculty, ground.picked.attacks)[ordinary.role]
    every = [setting for attack in attacks.values() for setting in protocol.settings(setup, attack)]
    bench.train("tuning", phases.tuning_uses(setup, [ordinary], {ordinary.role: attacks}))
    tried = [protocol.rivals(setup, bench, ordinary, setting) for setting in every]
    bench.train("matching controls", protocol.rival_uses(setup, [rival for rivals in tried for rival in rivals]))
    best = protocol.best_settings(setup, bench, ordinary, attacks)
    side = Side(setup, {ordinary.role: protocol.choose(setup, bench, ordinary, best)})
    controls = [*_longer(setup, bench), *_judged(setup, bench, tried)]
    bench.train("controls", controls + judging.beside(side, bench, ordinary))
    costs = (protocol.cost_uses(setup, bench, c, ordinary) for c in side.settled[ordinary.role].values())
    bench.train("smaller budgets", [use for uses in costs for use in uses])


def _longer(setup: Setup, bench: Bench) -> list[Use]:
    """Return the LS students that are tuned for twice the steps; none where settings are chosen by a single seed."""
    if setup.suite.tuning_seeds < 2:
        return []
    longer = replace(protocol.best_ls(setup, bench), recipe=replace(setup.recipe, steps=LONGER * setup.recipe.steps))
    return protocol.rival_uses(setup, [longer])


def _judged(setup: Setup, bench: Bench, tried: Iterable[Sequence[Rival]]) -> list[Use]:
    """Return what each setting has to beat, at the most judged seeds."""
    best = (protocol.best_rival(setup, bench, rivals) for rivals in tried)
    cells = (cell for rival in best for cell in protocol.rival_cells(setup, rival, range(setup.most)))
    return [Use(cell, "judge", None, "control") for cell in cells]
