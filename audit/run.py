"""The audit, top to bottom."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from audit import folder
from audit.analysis import flags
from audit.analysis.derive import derived
from audit.cache.looks import looked, remember_looks
from audit.context import Ground, opened
from audit.diagnosis import thumbnails
from audit.diagnosis.pools import cmi_pools, illustrated
from audit.execution.bench import Bench
from audit.execution.execute import executor
from audit.plan.question import of_audit
from audit.plan.request import Request
from audit.plan.suite import complete, suite
from audit.recording import evidence, teacher
from audit.recording.comparisons import Rows, trial
from audit.statistics.sequential import HORIZON, schedule
from audit.statistics.verdict import ALPHA
from audit.trials import phases, protocol
from audit.trials import setup as plan
from audit.trials.judging import judge
from audit.trials.protocol import Settled, Setup, Side, offered, set_aside
from reports import record as records
from reports.base import encodable
from reports.clusters import UNSEEN
from reports.outputs import write_all
from reports.record import Comparison, Look, Record
from teachers.errors import AuditError, NothingAudited, UsageError
from teachers.targets import target
from teachers.targets.identify import refuse_other_order
from teachers.targets.isolation import both


@dataclass(frozen=True)
class Done:
    """A finished audit and where it lies."""

    record: Record
    folder: Path


def run(request: Request) -> Done:
    """Take a checkpoint to a verdict."""
    folder.refuse_file(request.out)
    began = time.perf_counter()
    with opened(request, suite(request.effort)) as ground:
        return _run(ground, began)


def _run(ground: Ground, began: float) -> Done:
    request, cache, teller, faculty = ground.request, ground.cache, ground.teller, ground.faculty
    task, setup, attacks, audited = ground.task, ground.setup, ground.picked.attacks, faculty.audited
    question = plan.identify(setup, audited, attacks)
    seen = looked(cache, question)
    looks = schedule(setup.seeds, setup.most, seen)
    identity = of_audit(question, looks)
    out = request.out or Path("audit-out") / f"{audited.slug}-{setup.suite.name}-{identity[:8]}"

    with folder.claimed(out, teller.note):
        (out / "journal.jsonl").touch()
        finished = folder.already(out, identity)
        if finished is not None:
            teller.note("this audit is finished: nothing to train")
            finished = asked_for(finished, request)
            records.save(finished, out / "record.json")
            write_all(finished, out)
            return Done(finished, out)
        tops = {"audited": teacher.tops(audited, task)}
        refuse_other_order(audited, tops["audited"].validation, task)
        if not audited.teacher.synthetic:
            target.refuse_chance(tops["audited"].validation, task, audited.teacher.name)
        probe = teacher.probe_info(faculty.probe(tops["audited"].validation))
        for flag in flags.of_answers(probe):
            teller.note(f"flag {flag.id}: {flag.raised}; {flag.do}")
        ordinary = faculty.ordinary
        tops |= {s.role: teacher.tops(s, task) for s in both(faculty) if s.role not in tops}

        bench = workbench(ground, out)
        with closing(bench.executor):
            ask(ground, bench)
            sides = [Side(own, settle(own, bench, ground)) for own in plan.for_students(setup)]
            judge(sides, bench, audited, ordinary, seen)

        taken = {seeds for side in sides for numbers in side.looks.values() for seeds in numbers}
        # Attacks without originals begin with fewer seeds in every audit: that is no look between.
        remember_looks(cache, question, (seeds for seeds in taken if seeds >= setup.seeds))
        rows = [Rows(side, bench, audited, ordinary) for side in sides]
        comparisons = tuple(of.attack(attack) for of in rows for attack in attacks.values())
        if all(row.status == "failed" for row in comparisons):
            raise nothing(comparisons[0], bench)
        pools = cmi_pools(audited, setup)
        if audited.remote is not None:
            teller.note(f"{audited.remote.sent:,} images were sent to {audited.teacher.name} in this run")
        measured = encodable(
            Record(
                audit=identity,
                command=request.command,
                teacher=teacher.describe(audited, task, tops["audited"]),
                ordinary=teacher.describe(ordinary, task, tops[ordinary.role]),
                task=evidence.task_info(setup),
                suite=evidence.suite_info(setup, complete(setup.suite.name, attacks), ground.picked.plugins),
                settings=evidence.settings(request, setup, ground.isolated),
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
                cmi_behind=audited.behind,
                ledger=evidence.ledger(bench, setup, pools, probe),
                answered=evidence.answered(bench, audited, setup, pools, probe),
                trials=tuple(trial(setup, bench, use, tops) for key, use in bench.uses.items() if key in bench.results),
                journal=evidence.journal(bench.journal),
                environment=evidence.environment(),
                times=evidence.times(bench, time.perf_counter() - began),
            )
        )
        record = asked_for(illustrated(derived(measured), task), request)
        records.save(record, out / "record.json")
        write_all(record, out)
    return Done(record, out)


def nothing(first: Comparison, bench: Bench) -> AuditError:
    """Return why nothing was audited: where the first attack cannot run as it is asked to, that."""
    codes = {failure.code for failure in bench.failures.values() if failure.cell.technique == first.attack}
    if codes == {UsageError.exit_code}:
        return UsageError(f"{first.attack}: {first.reason}")
    return NothingAudited(f"every attack failed; the first: {first.reason}")


def workbench(ground: Ground, out: Path) -> Bench:
    """Lay out what training takes."""
    request, setup, task = ground.request, ground.setup, ground.task
    return Bench(
        cache=ground.cache,
        executor=executor(request.jobs, request.device, isolated=ground.isolated, timeout=request.cell_timeout),
        workers=request.jobs if request.device == "cpu" else 1,
        pools={pool.digest: pool for pool in (setup.pool, setup.tenth, setup.nothing, setup.surrogate)},
        exams={"validation": task.validation, "test": task.test},
        classes=len(task.classes),
        subjects={(s.fingerprint, s.surface.name): s for s in (setup.truth, *both(ground.faculty))},
        journal=out / "journal.jsonl",
        teller=ground.teller,
    )


def ask(ground: Ground, bench: Bench) -> None:
    """Ask both teachers about the views that attacks on original data train on, before any of them trains."""
    setup, attacks = ground.setup, offered(ground.faculty, ground.picked.attacks)
    for subject in both(ground.faculty):
        kinds = {a.views for a in attacks[subject.role].values() if a.holds == "original" and a.views}
        for kind in sorted(kinds):
            bench.ask(subject, setup.pool, kind, setup.recipe.views)
            if subject is ground.faculty.audited:
                bench.ask(setup.truth, setup.pool, kind, setup.recipe.views)


def settle(setup: Setup, bench: Bench, ground: Ground) -> Settled:
    """Tune attacks and LS students on validation, then train what every attack has to beat."""
    teachers, audited = both(ground.faculty), ground.faculty.audited
    attacks = offered(ground.faculty, ground.picked.attacks)
    bench.teller.note(f"{setup.recipe.architecture} students of {setup.recipe.steps} steps on {bench.workers} workers")
    later = sum(phase.least for phase in phases.later(setup, attacks))
    bench.train("tuning", phases.tuning_uses(setup, teachers, attacks), later)
    best = {s.role: protocol.best_settings(setup, bench, s, attacks[s.role]) for s in teachers}
    matched = [r for s in teachers for setting in best[s.role] for r in protocol.rivals(setup, bench, s, setting)]
    bench.train("matching controls", protocol.rival_uses(setup, matched), later)
    chosen: Settled = {s.role: protocol.choose(setup, bench, s, best[s.role]) for s in teachers}
    asking = [c.attack for c in chosen["audited"].values() if set_aside(setup, bench, audited, c) is None]
    bench.train("twice the steps", protocol.longer_uses(setup, bench, audited, asking), later)
    return chosen


def asked_for(record: Record, request: Request) -> Record:
    """Return a record as it was asked for, in what is no part of the audit: its price, thumbnails or none."""
    if request.price is not None:
        record = record.model_copy(update={"settings": record.settings.model_copy(update={"price": request.price})})
    if not request.thumbnails and record.clusters is not None:
        record = record.model_copy(update={"clusters": thumbnails.without(record.clusters)})
    return record
