"""The audit, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from attacks.base import Attack
from audit import folder
from audit.analysis import flags
from audit.analysis.derive import derived
from audit.cache.looks import looked, remember_looks
from audit.context import RunContext, ask, named, open_context, own_teachers, workbench
from audit.diagnosis import thumbnails
from audit.diagnosis.pools import cmi_pools, illustrated
from audit.execution.runner import TrialRunner
from audit.forecast.outlook import Foresight
from audit.plan.design import VERSION, Attacks, TeacherRole
from audit.plan.options import DECIDED, Options
from audit.plan.question import of_audit
from audit.plan.suite import complete
from audit.recording import evidence, teacher
from audit.recording.comparisons import ComparisonBuilder, trial
from audit.recording.fitness import examined, seems_unfit
from audit.recording.second_probe import second_probe
from audit.statistics.sequential import HORIZON, schedule
from audit.statistics.verdict import Finding, gains
from audit.trials import preparation as plan
from audit.trials.judging import judge
from audit.trials.protocol import StudentTrials, asked_ahead, by_role, trials
from reports import frameworks
from reports import record as records
from reports.base import encodable
from reports.clusters import UNSEEN
from reports.outputs import write_all
from reports.record import CMIPool, Comparison, Look, Probe, Record, SecondProbe, TeacherInfo
from reports.wording import run_so_far
from teachers.errors import AuditError, NothingAudited, UsageError
from teachers.targets.target import Target


@dataclass(frozen=True)
class WrittenAudit:
    """A finished audit and where it lies."""

    record: Record
    folder: Path
    again: bool = False  # whether it was finished before, so that nothing was trained now


def run(options: Options, *, command: str = "", fixed: Sequence[Attack] = ()) -> WrittenAudit:
    """Take a checkpoint to a verdict; `fixed`: settings that an earlier audit chose, in place of tuning."""
    folder.refuse_file(options.out)
    began = time.perf_counter()
    with open_context(options, fixed) as context:
        return _run(context, command, began)


def _run(context: RunContext, command: str, began: float) -> WrittenAudit:
    options, cache, progress = context.options, context.cache, context.progress
    experiment, audited = context.experiment, context.targets.audited
    question = plan.identify(experiment, context.settings, audited, context.selection.attacks)
    seen = looked(cache, question)
    looks = schedule(experiment.seeds, experiment.most, seen)
    identity = of_audit(question, looks, options.delta, options.alpha)
    out = options.out or Path("audit-out") / f"{audited.slug}-{experiment.suite.name}-{identity[:8]}"

    with folder.claimed(out, progress.note):
        (out / "journal.jsonl").touch()
        ends = options.stop == DECIDED or bool(experiment.suite.ends)
        finished = folder.already(out, identity, decided=ends)
        if finished is not None:
            progress.note("this audit is finished: nothing to train")
            return replace(written(asked_for(finished, options), out), again=True)
        runner = workbench(context, out, [audited])  # other teachers only once this one is fit
        with closing(runner.executor):
            with progress.during(f"asking {audited.teacher.name}"):
                tops, probe = examine(context, runner)
            audit = AuditRun(context, runner, out, command, began, question, seen, identity, looks, tops, probe)
            with progress.during("comparing students"):
                record = audit.decided(ends=ends)
                if record is not None and not ends:  # it stays, whatever happens to the table
                    written(record, out)
                    progress.note(so_far(record, out))
                if record is None or not ends:
                    record = audit.whole()
        with progress.during("writing reports"):
            return written(record, out)


def written(record: Record, out: Path) -> WrittenAudit:
    """Write a record and all of its reports."""
    records.save(record, out / "record.json")
    write_all(record, out)
    return WrittenAudit(record, out)


@dataclass(frozen=True)
class AuditRun:
    """An audit whose teacher has answered: from here on students are trained, until a word is sure, and then all."""

    context: RunContext
    runner: TrialRunner
    out: Path
    command: str
    began: float
    question: str
    seen: tuple[int, ...]  # numbers of seeds at which earlier audits looked at the question
    identity: str
    looks: tuple[int, ...]
    tops: dict[str, teacher.Predictions]  # by role of the teacher
    probe: Probe
    taken: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)  # looks, by student and attack

    def decided(self, *, ends: bool) -> Record | None:
        """Judge attacks in the order of the suite, and return a partial record as soon as the word is sure.

        None where only the whole table says it: no attack gained, or a flag allows no decisive word. `ends`: whether
        the audit will end there. Its teacher is then asked again.
        """
        context, names, alpha = self.context, list[str](), self.context.options.alpha
        attacks = context.selection.attacks
        for group in context.experiment.suite.groups(attacks)[:-1]:
            names += group
            students = self.settle({name: attacks[name] for name in attacks if name in names})
            if not gains(self.judge(students, [name for name in attacks if name not in names]), alpha):
                continue
            record = self.record(students, again=self.second_probe() if ends else None)
            return record if record.verdict.word == "DISTILLABLE" else None
        return None

    def whole(self) -> Record:
        """Judge all attacks and train what the table needs beside them; return the record."""
        context, runner, targets = self.context, self.runner, self.context.targets
        with runner.progress.during("teaching and asking the ordinary teacher"):
            examine_ordinary(context, runner, self.tops)
        attacks = context.selection.attacks
        students = self.settle(attacks, table=True)
        self.judge(students)
        rows = [ComparisonBuilder(one) for one in students]
        comparisons = [of.attack(attack) for of in rows for attack in attacks.values()]
        if all(row.status == "failed" for row in comparisons):  # before the teacher is asked again
            raise nothing(comparisons[0], runner)
        ordinary = teacher.describe(targets.ordinary, context.task, self.tops[targets.ordinary.role])
        return self.record(students, ordinary=ordinary, again=self.second_probe())

    def settle(self, attacks: Attacks, *, table: bool = False) -> list[StudentTrials]:
        """Tune attacks and LS students on validation, then train what every attack has to beat; once an architecture.

        `table`: with the ordinary teacher, and with what the word does without.
        """
        runner, targets = self.runner, self.context.targets
        teachers: dict[TeacherRole, Target] = by_role(targets) if table else {"audited": targets.audited}
        every = list[StudentTrials]()
        for own in plan.for_students(self.context.experiment):
            looks = self.taken.setdefault(own.recipe.architecture, {})
            one = replace(trials(own, runner, teachers, attacks), looks=looks)
            every.append(one if table else replace(one, design=one.design.word()))
        runner.outlook = partial(self.foresight, every, every if table else ())
        for one in every:
            recipe, design = one.experiment.recipe, one.design
            runner.progress.note(
                f"{recipe.architecture} students of {recipe.steps} steps on {runner.executor.workers} workers"
            )
            one.tune("tuning", design.tuning())
            one.tune("matching controls", design.matching(one))
            one.train("twice the steps", design.longer(one, one.pairs))
        return every

    def judge(self, students: Sequence[StudentTrials], planned: Sequence[str] = ()) -> list[Finding]:
        """Judge attacks while `planned` have not run, and remember at how many seeds."""
        options = self.context.options
        found = judge(
            students, self.runner, self.seen, options.tolerance, planned, options.alpha, outsiders=options.outsiders
        )
        seeds = {number for attacks in self.taken.values() for numbers in attacks.values() for number in numbers}
        # Attacks without originals begin with fewer seeds in every audit: that is no look between.
        first = self.context.experiment.seeds
        remember_looks(self.context.cache, self.question, (number for number in seeds if number >= first))
        return found

    def second_probe(self) -> SecondProbe:
        """Ask the audited teacher again."""
        experiment, audited = self.context.experiment, self.context.targets.audited
        views = asked_ahead(audited, self.context.selection.attacks, experiment)
        with self.runner.progress.during(f"asking {audited.teacher.name} again"):
            return second_probe(self.runner, audited, experiment, views, self.tops["audited"].probed)

    @cached_property
    def foresight(self) -> Foresight:
        """What may be trained yet."""
        return Foresight(self.context, self.runner)

    @cached_property
    def pools(self) -> tuple[CMIPool, ...]:
        """The audited teacher's answers for CMI."""
        audited = self.context.targets.audited
        with self.runner.progress.during(f"asking {audited.teacher.name} about the images of its CMI"):
            return tuple(cmi_pools(audited, self.context.experiment))

    def record(
        self,
        students: Sequence[StudentTrials],
        ordinary: TeacherInfo | None = None,
        again: SecondProbe | None = None,
    ) -> Record:
        """Return the record of what was judged so far."""
        context, runner, experiment = self.context, self.runner, self.context.experiment
        attacks, task, audited = context.selection.attacks, context.task, context.targets.audited
        probe = self.probe.model_copy(update={"again": again})
        rows = [ComparisonBuilder(one) for one in students]
        comparisons = tuple(of.attack(attack) for of in rows for attack in attacks.values())
        if audited.remote is not None:
            context.progress.note(f"{audited.remote.sent:,} images were sent to {audited.teacher.name} in this run")
        measured = encodable(
            Record(
                audit=self.identity,
                design=VERSION,
                command=self.command,
                teacher=teacher.describe(audited, task, self.tops["audited"]),
                ordinary=ordinary,
                task=evidence.task_info(experiment),
                suite=evidence.suite_info(
                    experiment, complete(experiment.suite.name, attacks), context.selection.plugins
                ),
                settings=context.settings,
                look=Look(
                    number=max((len(row.looks) for row in comparisons), default=0),
                    alpha=context.options.alpha,
                    seeds=self.looks,
                    horizon=HORIZON,
                    outsiders=context.options.outsiders,
                ),
                comparisons=comparisons,
                controls=tuple(row for of in rows for row in of.controls()),
                cmi=self.pools,
                clusters=UNSEEN,
                probe=probe,
                cmi_without_guard=audited.behind,
                ledger=evidence.ledger(runner, experiment, self.pools, probe),
                distinct_answers=evidence.distinct_answers(runner, audited, experiment, self.pools, probe),
                trials=tuple(
                    trial(experiment, runner, use, self.tops)
                    for key, use in runner.uses.items()
                    if key in runner.results
                ),
                journal=evidence.journal(runner.journal),
                environment=evidence.environment(runner.executor.engine),
                times=evidence.times(runner, time.perf_counter() - self.began),
            )
        )
        return asked_for(illustrated(derived(frameworks.stated(measured)), task), context.options)


def so_far(record: Record, out: Path) -> str:
    """Say that a word is sure, and what it rests on."""
    return f"{record.verdict.word}: {record.verdict.sentence} {run_so_far(record)}; the record is in {out}"


def nothing(first: Comparison, runner: TrialRunner) -> AuditError:
    """Return why nothing was audited: where the first attack cannot run as it is asked to, that."""
    codes = {failure.code for failure in runner.failures.values() if failure.cell.technique == first.attack}
    if codes == {UsageError.exit_code}:
        return UsageError(f"{first.attack}: {first.reason}")
    return NothingAudited(f"every attack failed; the first: {first.reason}")


def examine(context: RunContext, runner: TrialRunner) -> tuple[dict[str, teacher.Predictions], Probe]:
    """Ask the audited teacher all that it is asked before training; return its top classes and what the probe found.

    The audited teacher answers the views of attacks before the auditor's own questions: one that counts its queries
    then cannot keep its honest answers for the auditor, and one that turns is noticed when it is asked again.
    """
    targets, task, audited = context.targets, context.task, context.targets.audited
    views = asked_ahead(audited, context.selection.attacks, context.experiment)
    early = examined(audited, task) if seems_unfit(runner, audited, context.experiment, views) else None
    ask(context, runner, audited)
    tops = {"audited": early or examined(audited, task)}
    probe = teacher.probe_info(targets.probe(tops["audited"].validation))
    for flag in flags.of_answers(probe):
        context.progress.note(f"flag {flag.id}: {flag.found}; {flag.do}")
    runner.targets |= named(context.experiment.twins({"audited": audited}, context.runtime))
    return tops, probe


def examine_ordinary(context: RunContext, runner: TrialRunner, tops: dict[str, teacher.Predictions]) -> None:
    """Ask the ordinary teacher the same; it is trained here, if no other audit has trained it."""
    ordinary = context.targets.ordinary
    if ordinary is not context.targets.audited:
        runner.targets |= named([ordinary])
        tops[ordinary.role] = teacher.predictions(ordinary, context.task)
        ask(context, runner, ordinary)
    runner.targets = named(own_teachers(context)) | runner.targets


def asked_for(record: Record, options: Options) -> Record:
    """Return a record as it was asked for, in what is no part of the audit: its price, thumbnails or none."""
    if options.price is not None:
        record = record.model_copy(update={"settings": replace(record.settings, price=options.price)})
    if not options.thumbnails and record.clusters is not None:
        record = record.model_copy(update={"clusters": thumbnails.without(record.clusters)})
    return record
