"""The summary table, whose single row identifies an audit: teacher, question, verdict."""

from __future__ import annotations

import json
from typing import Final

from reports.record import Record
from reports.tables.table import Column, Table

SUMMARY: Final[Table[Record]] = Table(
    "summary",
    "One row: the teacher, the question and the verdict.",
    lambda record: (record,),
    (
        Column("audit", "text", "digest of everything that determines the audit", lambda r: r.audit),
        Column("created", "text", "time of the audit, ISO 8601", lambda r: r.times.created),
        Column("tool", "text", "version of distill-audit", lambda r: r.environment.tool),
        Column("schema_version", "count", "schema version of the record", lambda r: r.schema_version),
        Column("command", "text", "command as it was typed", lambda r: r.command),
        Column("teacher", "text", "name of the teacher", lambda r: r.teacher.name),
        Column("sha256", "text", "sha256 of the checkpoint", lambda r: r.teacher.sha256),
        Column("architecture", "text", "architecture of the teacher", lambda r: r.teacher.architecture),
        Column("method", "text", "method that trained the teacher", lambda r: r.teacher.method),
        Column(
            "network_parameters",
            "count",
            "parameters of the teacher; missing: it is behind an API",
            lambda r: r.teacher.network_parameters,
        ),
        Column(
            "accuracy", "number", "accuracy of the teacher on test images, fraction", lambda r: r.teacher.test_accuracy
        ),
        Column("accuracy_low", "number", "its 95 % interval: lower end", lambda r: r.teacher.test_low),
        Column("accuracy_high", "number", "its 95 % interval: upper end", lambda r: r.teacher.test_high),
        Column(
            "validation_accuracy",
            "number",
            "accuracy on validation images, fraction",
            lambda r: r.teacher.validation_accuracy,
        ),
        Column("task", "text", "name of the data", lambda r: r.task.name),
        Column("task_digest", "text", "digest of its images and labels", lambda r: r.task.digest),
        Column("pool_digest", "text", "digest of the attacker's images and labels", lambda r: r.task.pool_digest),
        Column("classes", "count", "number of classes", lambda r: len(r.task.classes)),
        Column("train", "count", "training images", lambda r: r.task.train),
        Column("validation", "count", "validation images", lambda r: r.task.validation),
        Column("test", "count", "test images", lambda r: r.task.test),
        Column("pool_images", "count", "images that the attacker holds", lambda r: r.task.pool_images),
        Column("suite", "text", "name of the suite", lambda r: r.suite.name),
        Column("suite_digest", "text", "digest of everything that the suite fixes", lambda r: r.suite.digest),
        Column("complete", "truth", "whether every attack of the suite was requested", lambda r: r.suite.complete),
        Column("student", "text", "student architectures, separated by commas", lambda r: r.settings.student),
        Column("surface", "text", "what the API shows", lambda r: r.settings.surface),
        Column(
            "shots",
            "number",
            "share of the training images that the attacker holds, fraction",
            lambda r: r.settings.shots,
        ),
        Column("labels", "number", "share of these whose label it knows, fraction", lambda r: r.settings.labels),
        Column("dropped", "text", "classes that it never saw, JSON", lambda r: _names(r.settings.drop_classes)),
        Column("budget", "count", "queries that a student may use; missing: no limit", lambda r: r.settings.budget),
        Column("surrogate", "text", "images of attackers without the original ones", lambda r: r.settings.surrogate),
        Column("effort", "text", "--effort of the audit", lambda r: r.settings.effort),
        Column("device", "text", "device that trained the students", lambda r: r.settings.device),
        Column("isolated", "truth", "whether the teachers ran in a process of their own", lambda r: r.settings.isolate),
        Column("price", "number", "price of 1,000 queries", lambda r: r.settings.price),
        Column(
            "distinct_answers", "count", "distinct answers of the teacher that it used", lambda r: r.distinct_answers
        ),
        Column("word", "text", "verdict", lambda r: r.verdict.word),
        Column("sentence", "text", "sentence that explains the verdict", lambda r: r.verdict.sentence),
        Column("scope", "text", "scope of the verdict", lambda r: r.verdict.scope),
        Column("settle", "text", "what would decide an INCONCLUSIVE audit", lambda r: r.verdict.settle),
        Column("delta", "number", "tolerance δ, fraction", lambda r: r.verdict.delta),
        Column(
            "alpha", "number", "error rate of each decisive verdict, over all attacks and looks", lambda r: r.look.alpha
        ),
        Column("looks", "count", "number of looks", lambda r: r.look.number),
        Column("wall_seconds", "number", "seconds that the audit took", lambda r: r.times.wall_seconds),
    ),
)


def _names(values: tuple[str, ...]) -> str:
    return json.dumps(values, ensure_ascii=False)
