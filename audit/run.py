"""The audit, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from audit import checks, evidence, flags, folder, phases, plan, probes, protocol, subjects
from audit.bench import Bench
from audit.derive import derived
from audit.execute import executor
from audit.findings import Rows, set_aside, trial
from audit.identify import settled
from audit.judging import judge
from audit.plan import Request
from audit.progress import Teller
from audit.protocol import Attacks, Settled, Setup, Side
from audit.sequential import HORIZON, schedule
from audit.store import Cache, default_cache
from audit.subjects import Subject
from audit.suite import suite
from audit.verdict import ALPHA
from reports import record as records
from reports.outputs import write_all
from reports.record import Look, Record
from teachers.errors import NothingAudited
from teachers.surface import Surface


@dataclass(frozen=True)
class Done:
    """A finished audit and where it lies."""

    record: Record
    folder: Path


def run(request: Request) -> Done:
    """Take a checkpoint to a verdict."""
    folder.refuse_file(request.out)
    began, teller = time.perf_counter(), Teller(request.quiet)
    cache = Cache(request.cache or default_cache())
    picked = plan.pick(request.attacks, suite(request.effort), request.fixed)
    attacks = picked.attacks
    surface = Surface.parse(request.surface)
    task, weights = subjects.open_task(request.opening, cache)
    setup = plan.prepare(request, suite(request.effort), picked, task, cache)
    place = subjects.Place(cache, request.device, teller.note)
    request = replace(request, opening=settled(request.opening, task, weights, place))
    audited = subjects.open_subject(request.opening, task, setup.pool, weights, surface, setup.recipe.views, place)
    question = plan.identify(setup, audited, attacks)
    seen = folder.looked(cache, question)
    looks = schedule(setup.seeds, setup.most, seen)
    identity = plan.audit_of(question, looks)
    out = request.out or Path("audit-out") / f"{audited.slug}-{setup.suite.name}-{identity[:8]}"

    with folder.claimed(out, teller.note):
        (out / "journal.jsonl").touch()
        finished = folder.already(out, identity)
        if finished is not None:
            teller.note("this audit is finished: nothing to train")
            write_all(finished, out)
            return Done(finished, out)
        tops = {"audited": subjects.tops(audited, task)}
        if audited.teacher.method not in checks.SYNTHETIC:
            subjects.refuse_chance(tops["audited"].validation, task, audited.teacher.name)
        probe = probes.probe(audited, task, tops["audited"].validation, request.device)
        for flag in flags.of_answers(probe):
            teller.note(f"flag {flag.id}: {flag.raised}; {flag.do}")
        ordinary = subjects.open_ordinary(audited, task, place)
        tops |= {s.role: subjects.tops(s, task) for s in both(audited, ordinary) if s.role not in tops}

        bench = workbench(request, setup, cache, (setup.truth, audited, ordinary), out, teller)
        with closing(bench.executor):
            ask(setup, bench, attacks, audited, ordinary)
            sides = [Side(own, settle(own, bench, attacks, audited, ordinary)) for own in plan.for_students(setup)]
            judge(sides, bench, audited, ordinary, seen)

        taken = {seeds for side in sides for numbers in side.looks.values() for seeds in numbers}
        # Attacks without originals begin with fewer seeds in every audit: that is no look between.
        folder.remember_looks(cache, question, (seeds for seeds in taken if seeds >= setup.seeds))
        rows = [Rows(side, bench, audited, ordinary) for side in sides]
        comparisons = tuple(of.attack(attack) for of in rows for attack in attacks.values())
        if all(row.status == "failed" for row in comparisons):
            raise NothingAudited(f"every attack failed; the first: {comparisons[0].reason}")
        pools = evidence.cmi_pools(audited, setup)
        record = derived(
            Record(
                audit=identity,
                command=request.command,
                teacher=subjects.describe(audited, task, tops["audited"]),
                ordinary=subjects.describe(ordinary, task, tops[ordinary.role]),
                task=evidence.task_info(setup),
                suite=evidence.suite_info(setup, set(setup.suite.attacks) <= attacks.keys(), picked.plugins),
                settings=evidence.settings(request, setup),
                look=Look(
                    number=max((len(row.looks) for row in comparisons), default=0),
                    alpha=ALPHA,
                    seeds=looks,
                    horizon=HORIZON,
                ),
                comparisons=comparisons,
                controls=tuple(row for of in rows for row in of.controls()),
                cmi=pools,
                probe=probe,
                cmi_behind=audited.behind,
                ledger=evidence.ledger(bench, setup, pools, probe),
                trials=tuple(trial(setup, bench, use, tops) for key, use in bench.uses.items() if key in bench.results),
                journal=evidence.journal(bench.journal),
                environment=evidence.environment(),
                times=evidence.times(bench, time.perf_counter() - began),
            )
        )
        records.save(record, out / "record.json")
        write_all(record, out)
    return Done(record, out)


def workbench(
    request: Request, setup: Setup, cache: Cache, teachers: Sequence[Subject], out: Path, teller: Teller
) -> Bench:
    """Lay out what training takes."""
    return Bench(
        cache=cache,
        executor=executor(request.jobs, request.device),
        workers=request.jobs if request.device == "cpu" else 1,
        pools={pool.digest: pool for pool in (setup.pool, setup.tenth, setup.nothing, setup.surrogate)},
        exams={"validation": setup.task.validation, "test": setup.task.test},
        classes=len(setup.task.classes),
        subjects={(s.fingerprint, s.surface.name): s for s in teachers},
        journal=out / "journal.jsonl",
        teller=teller,
    )


def applicable(attacks: Attacks, subject: Subject) -> Attacks:
    """Return the attacks that a teacher's surface allows."""
    return {name: attack for name, attack in attacks.items() if subject.surface.offers(attack.needs)}


def both(audited: Subject, ordinary: Subject) -> list[Subject]:
    """Return the teachers to attack: one, where the audited teacher is the ordinary one."""
    return [audited] if ordinary is audited else [audited, ordinary]


def ask(setup: Setup, bench: Bench, attacks: Attacks, audited: Subject, ordinary: Subject) -> None:
    """Ask both teachers about the views that attacks on original data train on, before any of them trains."""
    for subject in both(audited, ordinary):
        kinds = {a.views for a in applicable(attacks, subject).values() if a.holds == "original" and a.views}
        for kind in sorted(kinds):
            bench.ask(subject, setup.pool, kind, setup.recipe.views)
            if subject is audited:
                bench.ask(setup.truth, setup.pool, kind, setup.recipe.views)


def settle(setup: Setup, bench: Bench, attacks: Attacks, audited: Subject, ordinary: Subject) -> Settled:
    """Tune attacks and LS students on validation, then train what every attack has to beat."""
    teachers = both(audited, ordinary)
    offered: dict[str, Attacks] = {subject.role: applicable(attacks, subject) for subject in teachers}
    bench.teller.note(f"{setup.recipe.architecture} students of {setup.recipe.steps} steps on {bench.workers} workers")
    later = sum(phase.least for phase in phases.later(setup, offered))
    bench.train("tuning", phases.tuning_uses(setup, teachers, offered), later)
    best = {s.role: protocol.best_settings(setup, bench, s, offered[s.role]) for s in teachers}
    matched = [r for s in teachers for setting in best[s.role] for r in protocol.rivals(setup, bench, s, setting)]
    bench.train("matching controls", protocol.rival_uses(setup, matched), later)
    chosen: Settled = {s.role: protocol.choose(setup, bench, s, best[s.role]) for s in teachers}
    asking = [c.attack for c in chosen["audited"].values() if set_aside(setup, bench, audited, c) is None]
    bench.train("twice the steps", protocol.longer_uses(setup, bench, audited, asking), later)
    return chosen
