"""What every command that attacks stands on: cache, task, what cells share, and the teachers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace

from audit.cache.store import Cache
from audit.execution import ahead
from audit.plan.request import Request
from audit.plan.suite import Suite
from audit.trials import preparation as plan
from audit.trials.preparation import AttackSelection
from audit.trials.protocol import Experiment
from reports.progress import ProgressReporter
from teachers.http.address import is_address
from teachers.storage.store import default_cache
from teachers.surface import Surface
from teachers.targets.identify import settled
from teachers.targets.isolation import IsolatedTargets, Targets
from teachers.targets.process import InProcessTargets, TargetSpec
from teachers.targets.runtime import Runtime
from teachers.targets.target import open_task
from teachers.task import Task


@dataclass(frozen=True)
class RunContext:
    """A request that was found to be possible."""

    request: Request
    cache: Cache
    progress: ProgressReporter
    selection: AttackSelection
    task: Task
    experiment: Experiment
    targets: Targets
    isolated: bool


@contextmanager
def open_context(request: Request, suite: Suite) -> Iterator[RunContext]:
    """Open what a request names, and close it.

    Raises UsageError or RefusedInput with one sentence where something cannot be had.
    """
    ahead()
    progress = ProgressReporter(request.quiet)
    price = None if request.price is None else request.price / 1_000
    # What was damaged is told beside --json, too: it may be asked about again, and cost.
    cache = Cache(request.cache or default_cache(), None if request.quiet else progress.note, price)
    selection = plan.pick(request.attacks, suite, request.fixed)
    surface = Surface.parse(request.surface)
    isolated = bool(selection.plugins) if request.isolate is None else request.isolate
    remote = is_address(request.spec.teacher)  # apart as it is
    with ExitStack() as held:

        def apart() -> IsolatedTargets:
            return held.enter_context(closing(IsolatedTargets(request.spec, cache.root, progress.note)))

        early = apart() if isolated and not remote else None
        task, weights = open_task(request.spec, cache, progress.note)
        experiment = plan.prepare(request, suite, selection, task, cache, progress.note)
        program = weights is not None and weights.is_program  # it may do what it likes, in a process of its own
        runtime = Runtime(cache, request.device, progress.note)
        request = replace(request, spec=settled(request.spec, task, weights, runtime))
        wanted = TargetSpec(request.spec, surface.name, experiment.recipe.views, request.device)
        targets: Targets
        if early is not None or program:
            del weights
            targets = (early or apart()).open(wanted, cache.pool(experiment.pool))
        else:
            targets = held.enter_context(
                closing(InProcessTargets(wanted, task, experiment.pool, weights, runtime, surface))
            )
        yield RunContext(request, cache, progress, selection, task, experiment, targets, isolated or program)
