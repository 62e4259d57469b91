"""What every command that attacks stands on: cache, task, what cells share, and the teachers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace

from audit.cache.store import Cache
from audit.execution import ahead
from audit.plan.request import Request
from audit.plan.suite import Suite
from audit.trials import setup as plan
from audit.trials.protocol import Setup
from audit.trials.setup import Picked
from reports.progress import Teller
from teachers.http.address import is_address
from teachers.storage.store import default_cache
from teachers.surface import Surface
from teachers.targets import runtime, target
from teachers.targets.identify import settled
from teachers.targets.isolation import Apart, Faculty
from teachers.targets.process import Here, Spec
from teachers.task import Task


@dataclass(frozen=True)
class Ground:
    """A request that was found to be possible."""

    request: Request
    cache: Cache
    teller: Teller
    picked: Picked
    task: Task
    setup: Setup
    faculty: Faculty
    isolated: bool


@contextmanager
def opened(request: Request, suite: Suite) -> Iterator[Ground]:
    """Open what a request names, and close it.

    Raises UsageError or RefusedInput with one sentence where something cannot be had.
    """
    ahead()
    teller = Teller(request.quiet)
    price = None if request.price is None else request.price / 1_000
    # What was damaged is told beside --json, too: it may be asked about again, and cost.
    cache = Cache(request.cache or default_cache(), None if request.quiet else teller.note, price)
    picked = plan.pick(request.attacks, suite, request.fixed)
    surface = Surface.parse(request.surface)
    isolated = bool(picked.plugins) if request.isolate is None else request.isolate
    remote = is_address(request.opening.teacher)  # apart as it is
    with ExitStack() as held:

        def apart() -> Apart:
            return held.enter_context(closing(Apart(request.opening, cache.root, teller.note)))

        early = apart() if isolated and not remote else None
        task, weights = target.open_task(request.opening, cache, teller.note)
        setup = plan.prepare(request, suite, picked, task, cache, teller.note)
        program = weights is not None and weights.is_program  # it may do what it likes, in a process of its own
        place = runtime.Place(cache, request.device, teller.note)
        request = replace(request, opening=settled(request.opening, task, weights, place))
        spec = Spec(request.opening, surface.name, setup.recipe.views, request.device)
        faculty: Faculty
        if early is not None or program:
            del weights
            faculty = (early or apart()).open(spec, cache.pool(setup.pool))
        else:
            faculty = held.enter_context(closing(Here(spec, task, setup.pool, weights, place, surface)))
        yield Ground(request, cache, teller, picked, task, setup, faculty, isolated or program)
