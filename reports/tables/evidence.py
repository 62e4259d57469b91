"""The tables behind the comparisons: students, CMI of the teacher's answers, queries, flags, surfaces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from reports.record import Flag, LedgerRow, Record, SurfaceResult, Trial
from reports.tables.table import Column, Table, bounded, settings


class Concentration(NamedTuple):
    """A teacher's CMI on one set of images at one temperature, in nats."""

    pool: str
    temperature: float
    cmi: float
    se: float
    plug_in: float
    gamma: float
    ncmi: float


class Class(NamedTuple):
    """One class's CMI at temperature 1 on one set of images, in nats."""

    pool: str
    label: int
    name: str
    cmi: float | None


def _curves(record: Record) -> Iterator[Concentration]:
    for pool in record.cmi:
        rows = zip(pool.temperatures, pool.cmi, pool.se, pool.plug_in, pool.gamma, pool.ncmi, strict=True)
        yield from (Concentration(pool.name, *row) for row in rows)


def _classes(record: Record) -> Iterator[Class]:
    for pool in record.cmi:
        named = zip(record.task.classes, pool.per_class, strict=False)
        yield from (Class(pool.name, label, name, cmi) for label, (name, cmi) in enumerate(named))


STUDENTS: Final[Table[Trial]] = Table(
    "students",
    "One row for every student that was trained.",
    lambda record: record.trials,
    (
        Column("key", "text", "digest of everything that determines the student", lambda t: t.key),
        Column("kind", "text", "attack or control", lambda t: t.kind),
        Column("technique", "text", "name", lambda t: t.cell.technique),
        Column(
            "role",
            "text",
            "tune, judge, null, positive control (on the ordinary teacher) or cost (a point of a curve)",
            lambda t: t.role,
        ),
        Column("teacher", "text", "audited or ordinary; missing: it queried no teacher", lambda t: t.teacher),
        Column("parameters", "text", "the technique's settings, JSON", lambda t: settings(t.cell.parameters)),
        Column("student", "text", "architecture", lambda t: t.cell.student),
        Column("seed", "count", "seed of initial weights, views and order", lambda t: t.cell.seed),
        Column("labels", "number", "share of its images that have labels, fraction", lambda t: t.labels),
        Column("budget", "count", "queries that it was allowed; missing: no limit", lambda t: t.cell.budget),
        Column("view", "text", "kind of view that it trained on: raw, crop, mixup…", lambda t: t.regime.view),
        Column("source", "text", "source of its images: original, surrogate or generated", lambda t: t.regime.source),
        Column("recipe", "text", "training recipe, JSON", lambda t: settings(t.regime.recipe)),
        Column(
            "validation_accuracy", "number", "accuracy on validation images, fraction", lambda t: t.validation_accuracy
        ),
        Column(
            "test_accuracy",
            "number",
            "accuracy on all test images, fraction; missing: tuning students never see them",
            lambda t: None if t.test_correct is None else float(t.test_correct.array().mean()),
        ),
        Column("agreement", "number", "how often it names its teacher's class, fraction", lambda t: t.agreement),
        Column("queries", "count", "images that it queried", lambda t: t.queries),
        Column(
            "repeated_labels",
            "number",
            "share of the labels that the teacher's answers repeat, fraction",
            lambda t: t.repeated_labels,
        ),
        Column("diverged", "truth", "whether its loss was not finite", lambda t: t.diverged),
        Column(
            "decoded", "text", "what the attack found that the teacher does to its answers", lambda t: t.decoded or None
        ),
        Column("network_parameters", "count", "parameters of the network", lambda t: t.network_parameters),
        Column("seconds", "number", "seconds of training and measuring", lambda t: t.seconds),
        Column("step_seconds", "number", "seconds of these inside training steps", lambda t: t.step_seconds),
    ),
)
CMI: Final[Table[Concentration]] = Table(
    "cmi",
    "One row for every set of images and temperature.",
    _curves,
    (
        Column("pool", "text", "train, augmented or validation", lambda c: c.pool),
        Column("temperature", "number", "temperature, by which logits are divided", lambda c: c.temperature),
        Column("cmi", "number", "CMI, corrected for the bias of the plug-in estimate, nats", lambda c: c.cmi),
        Column("se", "number", "standard error, nats", lambda c: c.se),
        Column("plug_in", "number", "the plug-in estimate, nats", lambda c: c.plug_in),
        Column("gamma", "number", "Γ, the mean cross entropy between classes, nats", lambda c: c.gamma),
        Column("ncmi", "number", "`cmi` / `gamma`", lambda c: c.ncmi),
    ),
)
CLASSES: Final[Table[Class]] = Table(
    "classes",
    "One row for every set of images and class.",
    _classes,
    (
        Column("pool", "text", "train, augmented or validation", lambda c: c.pool),
        Column("label", "count", "number of the class", lambda c: c.label),
        Column("name", "text", "name of the class", lambda c: c.name),
        Column("cmi", "number", "CMI at temperature 1, nats; missing: the class has too few images", lambda c: c.cmi),
    ),
)
LEDGER: Final[Table[LedgerRow]] = Table(
    "ledger",
    "Images by attack and purpose.",
    lambda record: record.ledger,
    (
        Column("attack", "text", "attack, or `auditor` or `shared`", lambda r: r.attack),
        Column("purpose", "text", "purpose of the queries", lambda r: r.purpose),
        Column("charged", "count", "images that its students queried", lambda r: r.charged),
        Column("sent", "count", "distinct answers that the teacher sent for them", lambda r: r.sent),
    ),
)
FLAGS: Final[Table[Flag]] = Table(
    "flags",
    "One row for every flag: something that weakens the audit's evidence.",
    lambda record: record.flags,
    (
        Column("flag", "text", "name", lambda f: f.id),
        Column(
            "caps",
            "text",
            "what it rules out: nothing, undistillable, or (inconclusive) both decisive verdicts",
            lambda f: f.caps,
        ),
        Column("found", "text", "what was found", lambda f: f.found),
        Column("why", "text", "why it matters", lambda f: f.why),
        Column("do", "text", "what to do", lambda f: f.do),
    ),
)
SURFACES: Final[Table[SurfaceResult]] = Table(
    "surfaces",
    "One row for every surface, where several were audited; each has an audit of its own beside the record.",
    lambda record: record.surfaces,
    (
        Column("surface", "text", "what the API shows", lambda s: s.surface),
        Column("folder", "text", "folder of its own audit, inside this audit's folder", lambda s: s.folder),
        Column("word", "text", "its verdict", lambda s: s.word),
        Column("attack", "text", "the attack with the largest margin", lambda s: s.attack),
        *bounded("margin", "", lambda s: s.margin, "margin of that attack, fraction"),
        Column("accuracy", "number", "accuracy of the top class, fraction", lambda s: s.accuracy),
        Column(
            "calibration_error",
            "number",
            "expected calibration error, fraction; missing: no probability is shown",
            lambda s: s.calibration_error,
        ),
        Column("top5", "number", "share of images for which five classes can be ranked, fraction", lambda s: s.top5),
    ),
)
