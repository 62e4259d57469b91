"""The audit, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from attacks.base import Attack
from audit import folder
from audit.analysis import flags
from audit.analysis.derive import derived
from audit.cache.looks import looked, remember_looks
from audit.context import RunContext, open_context
from audit.diagnosis import thumbnails
from audit.diagnosis.pools import cmi_pools, illustrated
from audit.execution.execute import executor
from audit.execution.runner import TrialRunner
from audit.plan import count
from audit.plan.design import VERSION
from audit.plan.options import Options
from audit.plan.question import of_audit
from audit.plan.suite import complete
from audit.recording import evidence, teacher
from audit.recording.comparisons import ComparisonBuilder, trial
from audit.recording.fitness import examined, seems_unfit
from audit.recording.second_probe import second_probe
from audit.statistics.sequential import HORIZON, schedule
from audit.statistics.verdict import ALPHA
from audit.trials import preparation as plan
from audit.trials.judging import judge
from audit.trials.protocol import Experiment, StudentTrials, asked_ahead, by_role, trials
from reports import record as records
from reports.base import encodable
from reports.clusters import UNSEEN
from reports.outputs import write_all
from reports.record import Comparison, Look, Probe, Record
from teachers.errors import AuditError, NothingAudited, UsageError
from teachers.targets.isolation import both
from teachers.targets.runtime import Runtime
from teachers.targets.target import Target


@dataclass(frozen=True)
class WrittenAudit:
    """A finished audit and where it lies."""

    record: Record
    folder: Path


def run(options: Options, *, command: str = "", fixed: Sequence[Attack] = ()) -> WrittenAudit:
    """Take a checkpoint to a verdict; `fixed`: settings that an earlier audit chose, in place of tuning."""
    folder.refuse_file(options.out)
    began = time.perf_counter()
    with open_context(options, fixed) as context:
        return _run(context, command, began)


def _run(context: RunContext, command: str, began: float) -> WrittenAudit:
    options, cache, progress, targets = context.options, context.cache, context.progress, context.targets
    task, experiment, attacks = context.task, context.experiment, context.selection.attacks
    audited = targets.audited
    question = plan.identify(experiment, context.settings, audited, attacks)
    seen = looked(cache, question)
    looks = schedule(experiment.seeds, experiment.most, seen)
    identity = of_audit(question, looks, options.delta)
    out = options.out or Path("audit-out") / f"{audited.slug}-{experiment.suite.name}-{identity[:8]}"

    with folder.claimed(out, progress.note):
        (out / "journal.jsonl").touch()
        finished = folder.already(out, identity)
        if finished is not None:
            progress.note("this audit is finished: nothing to train")
            finished = asked_for(finished, options)
            records.save(finished, out / "record.json")
            write_all(finished, out)
            return WrittenAudit(finished, out)
        runner = workbench(context, out, [audited])  # the ordinary teacher only once this one is fit
        with closing(runner.executor):
            tops, probe = examine(context, runner)
            students = [settle(own, runner, context) for own in plan.for_students(experiment)]
            judge(students, runner, seen, options.tolerance)

        taken = {seeds for one in students for numbers in one.looks.values() for seeds in numbers}
        # Attacks without originals begin with fewer seeds in every audit: that is no look between.
        remember_looks(cache, question, (seeds for seeds in taken if seeds >= experiment.seeds))
        rows = [ComparisonBuilder(one) for one in students]
        comparisons = tuple(of.attack(attack) for of in rows for attack in attacks.values())
        if all(row.status == "failed" for row in comparisons):
            raise nothing(comparisons[0], runner)
        pools = cmi_pools(audited, experiment)
        views = asked_ahead(audited, attacks)
        again = second_probe(runner, audited, experiment, views, tops["audited"].probed)
        probe = probe.model_copy(update={"again": again})
        if audited.remote is not None:
            progress.note(f"{audited.remote.sent:,} images were sent to {audited.teacher.name} in this run")
        measured = encodable(
            Record(
                audit=identity,
                design=VERSION,
                command=command,
                teacher=teacher.describe(audited, task, tops["audited"]),
                ordinary=teacher.describe(targets.ordinary, task, tops[targets.ordinary.role]),
                task=evidence.task_info(experiment),
                suite=evidence.suite_info(
                    experiment, complete(experiment.suite.name, attacks), context.selection.plugins
                ),
                settings=context.settings,
                look=Look(
                    number=max((len(row.looks) for row in comparisons), default=0),
                    alpha=ALPHA,
                    seeds=looks,
                    horizon=HORIZON,
                ),
                comparisons=comparisons,
                controls=tuple(row for of in rows for row in of.controls()),
                cmi=pools,
                clusters=UNSEEN,
                probe=probe,
                cmi_without_guard=audited.behind,
                ledger=evidence.ledger(runner, experiment, pools, probe),
                distinct_answers=evidence.distinct_answers(runner, audited, experiment, pools, probe),
                trials=tuple(
                    trial(experiment, runner, use, tops) for key, use in runner.uses.items() if key in runner.results
                ),
                journal=evidence.journal(runner.journal),
                environment=evidence.environment(),
                times=evidence.times(runner, time.perf_counter() - began),
            )
        )
        record = asked_for(illustrated(derived(measured), task), options)
        records.save(record, out / "record.json")
        write_all(record, out)
    return WrittenAudit(record, out)


def nothing(first: Comparison, runner: TrialRunner) -> AuditError:
    """Return why nothing was audited: where the first attack cannot run as it is asked to, that."""
    codes = {failure.code for failure in runner.failures.values() if failure.cell.technique == first.attack}
    if codes == {UsageError.exit_code}:
        return UsageError(f"{first.attack}: {first.reason}")
    return NothingAudited(f"every attack failed; the first: {first.reason}")


def workbench(context: RunContext, out: Path, teachers: Sequence[Target] = ()) -> TrialRunner:
    """Lay out what training takes; `teachers`: whom students may ask, in place of all teachers of the audit."""
    options, experiment, task = context.options, context.experiment, context.task
    asked = teachers or [*both(context.targets), *own_teachers(context)]
    return TrialRunner(
        cache=context.cache,
        executor=executor(options.workers, options.device, isolated=context.isolated, timeout=options.cell_timeout),
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


def examine(context: RunContext, runner: TrialRunner) -> tuple[dict[str, teacher.Predictions], Probe]:
    """Ask both teachers all that they are asked before training; return their top classes and what the probe found.

    The audited teacher answers the views of attacks before the auditor's own questions: one that counts its queries
    then cannot keep its honest answers for the auditor, and one that turns is noticed when it is asked again.
    """
    targets, task, audited = context.targets, context.task, context.targets.audited
    kinds = asked_ahead(audited, context.selection.attacks)
    early = examined(audited, task) if seems_unfit(runner, audited, context.experiment, kinds) else None
    ask(context, runner, audited)
    tops = {"audited": early or examined(audited, task)}
    probe = teacher.probe_info(targets.probe(tops["audited"].validation))
    for flag in flags.of_answers(probe):
        context.progress.note(f"flag {flag.id}: {flag.found}; {flag.do}")
    ordinary = targets.ordinary
    if ordinary is not audited:
        runner.targets |= named([ordinary])
        tops[ordinary.role] = teacher.predictions(ordinary, task)
        ask(context, runner, ordinary)
    runner.targets |= named(own_teachers(context))
    return tops, probe


def ask(context: RunContext, runner: TrialRunner, target: Target) -> None:
    """Ask a teacher about the views that attacks on original data train on, before any of them trains."""
    experiment = context.experiment
    for kind in asked_ahead(target, context.selection.attacks):
        runner.ask(target, experiment.pool, kind, experiment.recipe.views)


def own_teachers(context: RunContext) -> list[Target]:
    """Return the teachers that an attacker trains on their own images."""
    runtime = Runtime(context.cache, context.options.device, context.progress.note)
    return context.experiment.own_teachers(by_role(context.targets), runtime)


def named(targets: Iterable[Target]) -> dict[tuple[str, str], Target]:
    """Return teachers by what students name them."""
    return {(one.fingerprint, one.surface.name): one for one in targets}


def settle(experiment: Experiment, runner: TrialRunner, context: RunContext) -> StudentTrials:
    """Tune attacks and LS students on validation, then train what every attack has to beat."""
    found = trials(experiment, runner, context.targets, context.selection.attacks)
    design = found.design
    runner.progress.note(
        f"{experiment.recipe.architecture} students of {experiment.recipe.steps} steps on {runner.workers} workers"
    )
    later = sum(work.least for work in count.students(design, found.keys) if work.phase != count.TUNING)
    found.tune("tuning", design.tuning(), later)
    found.tune("matching controls", design.matching(found), later)
    found.train("twice the steps", design.longer(found, found.pairs), later)
    return found


def asked_for(record: Record, options: Options) -> Record:
    """Return a record as it was asked for, in what is no part of the audit: its price, thumbnails or none."""
    if options.price is not None:
        record = record.model_copy(update={"settings": replace(record.settings, price=options.price)})
    if not options.thumbnails and record.clusters is not None:
        record = record.model_copy(update={"clusters": thumbnails.without(record.clusters)})
    return record
