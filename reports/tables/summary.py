"""The summary table, whose single row identifies an audit: teacher, question, verdict."""

from __future__ import annotations

import json
from typing import Final

from reports.record import Record
from reports.tables.table import Column, Table

SUMMARY: Final[Table[Record]] = Table(
    "summary",
    "One row: what was audited, what was asked, and the verdict.",
    lambda record: (record,),
    (
        Column("audit", "text", "digest of everything that determines the audit", lambda r: r.audit),
        Column("created", "text", "when, ISO 8601", lambda r: r.times.created),
        Column("tool", "text", "version of distill-audit", lambda r: r.environment.tool),
        Column("schema_version", "count", "of the record", lambda r: r.schema_version),
        Column("command", "text", "as it was typed", lambda r: r.command),
        Column("teacher", "text", "name", lambda r: r.teacher.name),
        Column("sha256", "text", "of the checkpoint", lambda r: r.teacher.sha256),
        Column("architecture", "text", "of the teacher", lambda r: r.teacher.architecture),
        Column("method", "text", "that trained it", lambda r: r.teacher.method),
        Column("parameters", "count", "of the teacher; missing: it is behind an API", lambda r: r.teacher.parameters),
        Column("accuracy", "number", "of the teacher on test images, fraction", lambda r: r.teacher.test_accuracy),
        Column("accuracy_low", "number", "its 95 % interval: lower end", lambda r: r.teacher.test_low),
        Column("accuracy_high", "number", "upper end", lambda r: r.teacher.test_high),
        Column("validation_accuracy", "number", "fraction", lambda r: r.teacher.validation_accuracy),
        Column("task", "text", "name of the data", lambda r: r.task.name),
        Column("task_digest", "text", "of its images and labels", lambda r: r.task.digest),
        Column("pool_digest", "text", "of what the attacker holds of it", lambda r: r.task.pool_digest),
        Column("classes", "count", "number", lambda r: len(r.task.classes)),
        Column("train", "count", "images", lambda r: r.task.train),
        Column("validation", "count", "images", lambda r: r.task.validation),
        Column("test", "count", "images", lambda r: r.task.test),
        Column("held", "count", "images that the attacker holds", lambda r: r.task.held),
        Column("suite", "text", "name", lambda r: r.suite.name),
        Column("suite_digest", "text", "of all that it fixes", lambda r: r.suite.digest),
        Column("complete", "truth", "every attack of the suite was asked for", lambda r: r.suite.complete),
        Column("student", "text", "architectures, with commas", lambda r: r.settings.student),
        Column("surface", "text", "what the API shows", lambda r: r.settings.surface),
        Column("shots", "number", "of the images, those the attacker holds, fraction", lambda r: r.settings.shots),
        Column("labels", "number", "of these, those whose label it knows, fraction", lambda r: r.settings.labels),
        Column("dropped", "text", "classes it never saw, JSON", lambda r: _names(r.settings.dropped)),
        Column("budget", "count", "queries a student may rest on; missing: no limit", lambda r: r.settings.budget),
        Column("surrogate", "text", "images of attackers without the original ones", lambda r: r.settings.surrogate),
        Column("effort", "text", "name", lambda r: r.settings.effort),
        Column("device", "text", "that students were trained on", lambda r: r.settings.device),
        Column("isolated", "truth", "the teachers were in a process of their own", lambda r: r.settings.isolated),
        Column("price", "number", "of 1,000 queries", lambda r: r.settings.price),
        Column("answered", "count", "distinct answers of the teacher that all rests on", lambda r: r.answered),
        Column("word", "text", "the verdict", lambda r: r.verdict.word),
        Column("sentence", "text", "that explains it", lambda r: r.verdict.sentence),
        Column("scope", "text", "of which it speaks", lambda r: r.verdict.scope),
        Column("settle", "text", "what would settle it", lambda r: r.verdict.settle),
        Column("delta", "number", "tolerance δ, fraction", lambda r: r.verdict.delta),
        Column("alpha", "number", "error of either word, over all attacks and looks", lambda r: r.look.alpha),
        Column("looks", "count", "looks taken", lambda r: r.look.number),
        Column("wall_seconds", "number", "that the audit took", lambda r: r.times.wall_seconds),
    ),
)


def _names(values: tuple[str, ...]) -> str:
    return json.dumps(values, ensure_ascii=False)
