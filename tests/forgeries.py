"""Forged records: what a forger changes in the shipped audit, and where it is found once all else follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from record_changes import (
    Change,
    after,
    control_of,
    found_in,
    of,
    of_ledger,
    of_look,
    of_part,
    of_pool,
    of_positive,
    of_record,
    of_row,
    of_suite,
    of_trials,
    renamed,
    without,
)

from audit.plan.design import VERSION
from audit.plan.suite import SMOKE
from reports.record import NormalisationTrial, PackedArray, Record, Trial


def judged(name: str) -> Callable[[Trial], bool]:
    return lambda trial: trial.cell.technique == name and trial.role == "judge" and trial.kind == "attack"


def flipped(trial: Trial) -> dict[str, Any]:
    """Let a student be right on a hundred images more, and leave alone what it says."""
    assert trial.test_correct is not None
    bits = trial.test_correct.array()
    bits[np.flatnonzero(~bits)[:100]] = True
    return {"test_correct": PackedArray.of(bits)}


def shorter(packed: PackedArray) -> PackedArray:
    return PackedArray.of(packed.array()[:-1])


def unnamed(name: str) -> Change:
    """Call the suite otherwise, with the digest that the name would have."""
    suite = replace(SMOKE, name=name, attacks=SMOKE.attacks[1:])
    return of_suite(name=name, digest=suite.digest, attacks=suite.attacks)


def swapped(record: Record) -> Record:
    a, b, *others = record.ledger
    return record.model_copy(update={"ledger": (b, a, *others)})


def teacher_right(record: Record) -> Record:
    """Let the teacher be right everywhere."""
    teacher = record.teacher.model_copy(update={"test_correct": PackedArray.of(np.ones(record.task.test, bool))})
    return record.model_copy(update={"teacher": teacher, "ordinary": teacher})


def probe_of(**values: object) -> Change:
    return of_part("probe", **values)


def misnormalised(record: Record) -> Record:
    twice = NormalisationTrial(normalize="none", correct=record.probe.correct)
    return probe_of(normalised=(*record.probe.normalised, twice, twice))(record)


def with_extra_row(record: Record) -> Record:
    row = record.ledger[0].model_copy(update={"attack": "dkd"})
    return record.model_copy(update={"ledger": (row, *record.ledger)})


def twice_a_row(record: Record) -> Record:
    return record.model_copy(update={"ledger": (record.ledger[0], *record.ledger)})


def dearer(trial: Trial) -> dict[str, Any]:
    return {"gradient_queries": trial.queries + 1}


FOUND: dict[str, tuple[Change, str]] = {
    # the suite
    "an unknown suite that says it is complete": (of_suite(name="mine-1"), "suite.complete"),
    "an unknown suite without the strongest attack": (after(without("soft-kd"), unnamed("mine-1")), "suite.complete"),
    "a suite whose name differs in one letter": (of_suite(name="Smoke-1"), "suite.complete"),
    "a known suite without an attack": (without("avg"), "comparisons, avg on strided-8-16-32"),
    "a known suite without an attack that names fewer": (
        after(without("avg"), of_suite(attacks=("soft-kd", "label-mixup", "knockoff"))),
        "suite.attacks of smoke-1",
    ),
    "a whole suite that says it is a part": (of_suite(complete=False), "suite.complete"),
    "another effort": (of_part("settings", effort="standard"), "settings.effort"),
    "another number of steps": (
        lambda r: of_suite(recipe=r.suite.recipe | {"steps": 10})(r),
        "suite.recipe.steps of smoke-1",
    ),
    "students of another architecture than the first": (
        lambda r: of_suite(recipe=r.suite.recipe | {"architecture": "resnet18"})(r),
        "suite.recipe.architecture",
    ),
    # attacks and plug-ins
    "a plug-in that took no part": (of_suite(plugins=("echo: echo-attack 1 00",)), "suite.plugins"),
    "an attack of ours as a plug-in": (of_suite(plugins=("avg: mine 1 00",)), "suite.plugins"),
    "an attack that is beside its suite": (of_row("avg", lambda *_: {"outside_suite": True}), "outside_suite of avg"),
    "an attack of unknown name": (
        lambda r: Record.model_validate_json(r.model_dump_json().replace('"avg"', '"avg2"')),
        "attack avg2",
    ),
    "an attack that needs more than it does": (of_row("avg", lambda *_: {"needs": "gradients"}), "needs of avg"),
    "an attack that holds less than it does": (
        of_row("knockoff", lambda *_: {"holds": "no data"}),
        "holds of knockoff",
    ),
    "a reason beside a judged attack": (of_row("avg", lambda *_: {"reason": "hard"}), "reason of avg"),
    "an attack called identical": (
        of_row("label-mixup", lambda *_: {"status": "identical", "reason": "the teacher repeats 99.99% of the labels"}),
        "status of label-mixup",
    ),
    # students
    "a student that is right and does not say what the teacher says": (
        of_trials(judged("soft-kd"), flipped),
        "student soft-kd, seed 0: test_agrees",
    ),
    "a teacher that is always right": (teacher_right, "student ls, seed 0: test_agrees"),
    "a control that asked": (
        of_trials(lambda t: t.cell.technique == "ls", lambda t: {"queries": 7}),
        "student ls, seed 1000: queries",
    ),
    "more estimates than queries": (of_trials(judged("avg"), dearer), "student avg, seed 0: queries"),
    "more queries than the budget": (
        after(of_part("settings", budget=5), renamed(lambda r: tuple(t.key for t in r.trials if t.teacher), budget=5)),
        "student soft-kd, seed 0: queries",
    ),
    "a judged student that diverged": (
        of_trials(judged("avg"), lambda t: {"diverged": True}),
        "students of avg",
    ),
    "a regime of one seed": (
        of_trials(
            lambda t: judged("label-mixup")(t) and t.cell.seed == 1,
            lambda t: {"regime": t.regime.model_copy(update={"view": "crop"})},
        ),
        "student label-mixup, seed 1: regime",
    ),
    "a control of another view than it says": (
        of_trials(
            lambda t: t.cell.technique == "ls", lambda t: {"regime": t.regime.model_copy(update={"view": "raw"})}
        ),
        "student ls, seed 1000: regime.view",
    ),
    "fewer labels than were asked for": (
        of_trials(lambda t: t.cell.technique == "ls" and t.labels == 1, lambda t: {"labels": 0.5}),
        "student ls, seed 1000: labels",
    ),
    "shots that were not few": (of_part("settings", shots=0.5), "task.pool_images"),
    "labels that were all there": (of_part("settings", labels=0.5), "student ls, seed 1000: labels"),
    "a tuned student on the test images": (
        of_trials(
            lambda t: t.role == "tune" and t.cell.technique == "avg",
            lambda t: dict.fromkeys(("test_correct", "test_agrees"), PackedArray.of(np.ones(6_200, bool))),
        ),
        "student avg, seed 1000: measured on test images",
    ),
    # positive controls and curves
    "a positive control that lost its students' baseline": (
        of_positive("soft-kd", lambda r: {"control_students": ()}),
        "controls of the positive control of soft-kd",
    ),
    "a positive control of the strongest attack": (
        of("avg", lambda r: {"positive_control": control_of(r, "soft-kd")}),
        "students of the positive control of avg",
    ),
    "no curve": (of("knockoff", lambda r: {"curve": ()}), "curve of knockoff"),
    # looks and controls
    "a look that earlier audits did not take": (of_look(seeds=(2, 3)), "look.seeds"),
    "more seeds allowed than looked at": (of_suite(seeds=3), "look.seeds"),
    "a null control as the control of an attack": (
        of("avg", lambda r: {"control.students": found_in(r, "ls (null)").knockoff.students}),
        "controls of avg",
    ),
    # the design
    "a design whose controls were not trained": (of_record(design=VERSION), "settings of controls of soft-kd"),
    "a design that is not known": (of_record(design=99), "design"),
    # the task
    "fewer training images": (of_part("task", train=3_000), "task.pool_images"),
    "more of the attacker's images": (of_part("task", pool_images=3_101), "task.pool_images"),
    "two classes of one name": (
        lambda r: of_part("task", classes=(r.task.classes[1], *r.task.classes[1:]))(r),
        "task.classes",
    ),
    "a class that is none, dropped": (of_part("settings", drop_classes=("none",)), "record.json"),
    "other labels of the validation images": (
        lambda r: of_part("task", validation_labels=PackedArray.of(r.task.validation_labels.array()[::-1].copy()))(r),
        "cmi.validation.labels",
    ),
    "another task": (of_part("task", digest="0" * 64), "student ls, seed 1000"),
    "another name of the audit": (of_record(audit="0" * 64), "audit"),
    # the teachers
    "an ordinary teacher that nobody asked": (of_part("ordinary", name="ordinary"), "ordinary"),
    "a teacher without weights of another digest": (of_part("teacher", network_parameters=None), "teacher.sha256"),
    "a synthetic teacher of another digest": (of_part("teacher", method="placebo"), "teacher.sha256"),
    # the probe
    "a probe of fewer images": (probe_of(images=10), "probe.images"),
    "a probe that asked less": (probe_of(queries=0), "probe.queries"),
    "a probe of another teacher": (probe_of(correct=PackedArray.of(np.zeros(1_024, bool))), "probe.correct"),
    "a probe that says things twice": (misnormalised, "probe.normalised"),
    "a probe of other test images": (probe_of(duplicated=PackedArray.of(np.zeros(5, bool))), "record.json"),
    # answers of which CMI is measured
    "no answers": (of_record(cmi=()), "cmi"),
    "no answers on augmented images": (lambda r: of_record(cmi=(r.cmi[0], r.cmi[2]))(r), "cmi"),
    "answers in another order": (lambda r: of_record(cmi=r.cmi[::-1])(r), "cmi"),
    "labels of the answers exchanged": (
        of_pool("validation", lambda r, p: {"labels": PackedArray.of(np.roll(p.labels.array(), 1))}),
        "cmi.validation.labels",
    ),
    "other labels of augmented images": (
        of_pool("augmented", lambda r, p: {"labels": PackedArray.of(np.roll(p.labels.array(), 1))}),
        "cmi.augmented.labels",
    ),
    "fewer answers": (
        of_pool("train", lambda r, p: {"labels": shorter(p.labels), "answers": shorter(p.answers)}),
        "cmi.train.labels",
    ),
    # the ledger
    "a ledger without what the auditor asked": (
        lambda r: of_record(ledger=tuple(row for row in r.ledger if row.attack != "auditor"))(r),
        "ledger, rows of the auditor",
    ),
    "an auditor who asked less": (of_ledger("auditor", "evaluate", sent=1), "ledger, sent for the auditor"),
    "a probe that sent less": (of_ledger("auditor", "probe", sent=1), "ledger, sent for the auditor"),
    "CMI that sent less": (of_ledger("auditor", "cmi", sent=1), "ledger, sent for the auditor"),
    "fewer answers sent than were asked beforehand": (of_ledger("shared", "all", sent=40_000), "ledger, shared"),
    "more answers sent than charged": (
        of_ledger("avg", "judge, audited teacher", sent=60_000),
        "ledger, avg judge, audited",
    ),
    "more answers shared than charged": (of_ledger("shared", "all", sent=9_000_000), "ledger, shared"),
    "fewer answers in all": (of_record(distinct_answers=90_000), "distinct_answers"),
    "a ledger in another order": (swapped, "ledger, rows of attacks"),
    "a row of the ledger twice": (twice_a_row, "ledger, rows of attacks"),
    "a row of another attack": (with_extra_row, "ledger, dkd judge, audited teacher"),
}
