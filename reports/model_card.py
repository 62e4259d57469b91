"""Render the record as a part of a model card: metadata for the card's head, and a section for its body."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from reports import answer
from reports.markdown import escape
from reports.printable import clean
from reports.record import Comparison, Record
from reports.wording import carrier, gain, outcome, scope, sure

TYPE: Final = "distillation_audit"  # of the metrics: they are no accuracy, and no leaderboard shall mix them up


def render(record: Record) -> str:
    """Return YAML between lines of three dashes, and Markdown.

    The YAML is a `model-index` as Hugging Face's cards have it: accuracy of the teacher, margin of the attack that
    carries the word with its sure range, in points. Merge it into the head of a card that has one.
    """
    best, verdict = carrier(record), record.verdict
    parts = [
        "---\n" + _head(record, best) + "---",
        "## How much better a copy gets by asking",
        f"**{verdict.word}.** {escape(answer.sentence(record))}",
        escape(verdict.sentence),
        *([] if best is None else [_table(record, best)]),
        f"Scope: {escape(scope(record))}. The sure range is the interval of the margin that decides the word: it is "
        "corrected for all looks, its lower end for the number of attacks, too.",
        f"Checked with distill-audit {escape(record.environment.tool)}, suite {escape(record.suite.name)}, on "
        f"{escape(record.times.created[:10])}. Checkpoint: sha256 {record.teacher.sha256}. Audit: {record.audit}.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(record: Record, best: Comparison) -> str:
    rows = [
        ("attack that carries the word", record.name_of(best)),
        ("margin over the best student without the teacher [sure range], points", gain(best, record)),
        ("outcome", outcome(best, record)),
        *((mark.label, f"{100 * mark.share:.1f} %") for mark in answer.marks(record)),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {escape(name)} | {escape(value)} |" for name, value in rows)])


def _head(record: Record, best: Comparison | None) -> str:
    """Write the metadata. Every scalar is written as JSON, which is YAML whatever a stranger chose as a name."""
    metrics: list[dict[str, Any]] = [
        {"type": "accuracy", "name": "Test accuracy", "value": round(record.teacher.test_accuracy, 6)},
        {"type": TYPE, "name": "Verdict", "value": record.verdict.word},
    ]
    if best is not None and best.margin is not None:
        low, high = sure(best, record)
        values = {"margin": best.margin.mean, "lower end of the sure range": low, "upper end of the sure range": high}
        metrics += [
            {"type": TYPE, "name": f"{clean(record.name_of(best))}: {name}, points", "value": round(100 * value, 4)}
            for name, value in values.items()
            if math.isfinite(value)
        ]
    task = {"type": "image-classification"}
    data = {"type": clean(record.task.name), "name": clean(record.task.name), "split": "test"}
    result = {"task": task, "dataset": data, "metrics": metrics}
    return f"model-index: {json.dumps([{'name': clean(record.teacher.name), 'results': [result]}], indent=1)}\n"
