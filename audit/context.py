"""What every command that attacks stands on: cache, task, what cells share, the teachers, and what trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from attacks.base import Attack
from audit.cache.store import Cache
from audit.execution import ahead
from audit.execution.execute import Executor, executor
from audit.execution.runner import TrialRunner
from audit.plan.engines import LOCAL
from audit.plan.options import Options, settings_of, teacher_spec
from audit.plan.suite import Suite, suite
from audit.trials import preparation as plan
from audit.trials.preparation import AttackSelection
from audit.trials.protocol import Experiment, asked_ahead, by_role
from reports.progress import ProgressReporter
from reports.settings import Settings
from teachers.errors import UsageError
from teachers.http.address import is_address
from teachers.names import DEMO
from teachers.storage.store import default_cache
from teachers.surface import Surface
from teachers.targets.identify import settled
from teachers.targets.isolation import IsolatedTargets, Targets, both
from teachers.targets.process import InProcessTargets, TargetSpec
from teachers.targets.runtime import Runtime
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import Target, open_task
from teachers.task import Task


@dataclass(frozen=True)
class RunContext:
    """Options that were found to be possible, and what they name."""

    options: Options
    cache: Cache
    progress: ProgressReporter
    selection: AttackSelection
    task: Task
    experiment: Experiment
    targets: Targets
    isolated: bool
    spec: TeacherSpec  # with what was found out about a checkpoint
    cluster: Executor | None  # what trains, where that is not this machine

    @property
    def at_once(self) -> int:
        """Number of students that are trained at once."""
        return self.options.workers if self.cluster is None else self.cluster.workers

    @property
    def runtime(self) -> Runtime:
        """What teachers of the attacker's own are trained with."""
        return Runtime(self.cache, self.options.device, self.progress.note)

    @property
    def settings(self) -> Settings:
        """What the record keeps of the options, with what was chosen for those that were left open."""
        spec, experiment = self.spec, self.experiment
        return settings_of(
            self.options,
            arch=spec.architecture,
            normalize=spec.normalize,
            student=",".join(experiment.students),
            precision=experiment.recipe.precision,
            seeds=experiment.most,
            drop_classes=experiment.dropped,
            isolate=self.isolated,
        )


@contextmanager
def open_context(
    options: Options, fixed: Sequence[Attack] = (), *, ordinary: bool = False, other: Suite | None = None
) -> Iterator[RunContext]:
    """Open what options name, and close it.

    `fixed`: settings that an earlier audit chose, in place of tuning. `ordinary`: audit the ordinary teacher of the
    task in place of the named one. `other`: a suite in place of the effort's.

    Raises UsageError or RefusedInput with one sentence where something cannot be had.
    """
    ahead()
    progress = ProgressReporter(options.quiet)
    price = None if options.price is None else options.price / 1_000
    # What was damaged is told beside --json, too: it may be asked about again, and cost.
    cache = Cache(options.cache or default_cache(), None if options.quiet else progress.note, price)
    wanted_suite, spec = other or suite(options.effort), teacher_spec(options)
    if ordinary:
        spec = ordinary_spec(spec, cache)
    selection = plan.pick(options.attacks, wanted_suite, fixed)
    surface = Surface.parse(options.surface)
    isolated = bool(selection.plugins) if options.isolate is None else options.isolate
    if isolated and spec.live is not None:
        raise UsageError(
            f"{spec.teacher} is an object of this process, and cannot be kept apart from it, as isolate or a plug-in "
            "asks for; save it to a file, or give isolate=False"
        )
    remote = is_address(spec.teacher)  # apart as it is
    with ExitStack() as held:
        cluster = None
        if options.engine != LOCAL:  # first: what it cannot give is refused before anything else is done
            with progress.during("joining the cluster"):
                cluster = held.enter_context(closing(trainer(options, progress)))

        def apart() -> IsolatedTargets:
            return held.enter_context(closing(IsolatedTargets(spec, cache.root, progress.note)))

        with progress.during("opening the teacher and its data"):
            early = apart() if isolated and not remote else None
            task, weights = open_task(spec, cache, progress.note)
            experiment = plan.prepare(options, wanted_suite, selection, task, cache, progress.note)
            program = weights is not None and weights.is_program  # it may do what it likes, in a process of its own
            runtime = Runtime(cache, options.device, progress.note)
            spec = settled(spec, task, weights, runtime)
            wanted = TargetSpec(spec, surface.name, experiment.recipe.views, options.device)
            targets: Targets
            if early is not None or program:
                del weights
                targets = (early or apart()).open(wanted, cache.pool(experiment.pool))
            else:
                targets = held.enter_context(
                    closing(InProcessTargets(wanted, task, experiment.pool, weights, runtime, surface))
                )
        yield RunContext(
            options, cache, progress, selection, task, experiment, targets, isolated or program, spec, cluster
        )


def ordinary_spec(spec: TeacherSpec, cache: Cache) -> TeacherSpec:
    """Return the spec of the ordinary teacher on the task of the named teacher."""
    task, weights = open_task(spec, cache)
    card = weights.card if weights else None
    data, size = spec.data or (card.data if card else None), spec.size or (card.size if card else None)
    return TeacherSpec(DEMO, data, size=size, channels=task.shape[0])


def workbench(context: RunContext, out: Path, teachers: Sequence[Target] = ()) -> TrialRunner:
    """Lay out what training takes; `teachers`: whom students may ask, in place of all teachers of the audit."""
    options, experiment, task = context.options, context.experiment, context.task
    asked = teachers or [*both(context.targets), *own_teachers(context)]
    return TrialRunner(
        cache=context.cache,
        executor=context.cluster or trainer(options, context.progress, isolated=context.isolated),
        workers=options.workers,
        pools={
            pool.digest: pool for pool in (experiment.pool, experiment.tenth, experiment.nothing, experiment.surrogate)
        },
        eval_splits={"validation": task.validation, "test": task.test},
        classes=len(task.classes),
        targets=named((*experiment.truths.values(), *asked)),
        journal=out / "journal.jsonl",
        progress=context.progress,
    )


def trainer(options: Options, progress: ProgressReporter, *, isolated: bool = False) -> Executor:
    """Return what trains the students of an audit."""
    return executor(
        options.jobs,
        options.device,
        isolated=isolated,
        timeout=options.cell_timeout,
        engine=options.engine,
        note=progress.note,
    )


def ask(context: RunContext, runner: TrialRunner, target: Target) -> None:
    """Ask a teacher about the views that attacks on original data train on, before any of them trains."""
    experiment = context.experiment
    for views in asked_ahead(target, context.selection.attacks, experiment):
        runner.ask(target, experiment.pool, views.kind, views.count)


def own_teachers(context: RunContext) -> list[Target]:
    """Return the teachers that an attacker trains on their own images."""
    experiment, teachers = context.experiment, by_role(context.targets)
    return [*experiment.twins(teachers, context.runtime), *experiment.home_made(teachers, context.runtime)]


def named(targets: Iterable[Target]) -> dict[tuple[str, str], Target]:
    """Return teachers by what students name them."""
    return {(one.fingerprint, one.surface.name): one for one in targets}
