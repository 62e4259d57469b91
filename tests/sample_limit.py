"""Limits made from the shipped audit, for tests of the search and of the pages."""

from __future__ import annotations

from functools import cache

from gate_records import ABOVE, known, made, plain

from audit.limits.panels import Asker, panel
from audit.statistics.verdict import ALPHA
from reports.limit.document import Limit, Panel
from reports.record import Record

ORIGINAL = ("soft-kd", "avg", "label-mixup")  # of the shipped audit, on original images


@cache
def of(gaining: str = "", outsiders: bool = False, alpha: float = ALPHA) -> Record:
    """Return an audit in which an attack gains, of attackers with original images or without."""
    mine = [row.attack for row in plain().comparisons if (row.attack in ORIGINAL) != outsiders]
    record = known(plain(), {gaining: ABOVE} if gaining else {})
    rows = tuple(row for row in record.comparisons if row.attack in mine)
    look = record.look.model_copy(update={"alpha": alpha})
    return made(record.model_copy(update={"comparisons": rows, "look": look}))


def strong(record: Record) -> Record:
    """Return the same of attacks that pass their positive controls; those of the shipped audit do not."""
    rows = []
    for row in record.comparisons:
        assert row.positive_control is not None
        shown = row.positive_control.model_copy(update={"passes": True})
        rows.append(row.model_copy(update={"positive_control": shown}))
    return record.model_copy(update={"comparisons": tuple(rows)})


ASKER = Asker("probs", "1", ORIGINAL, 3_100, (100, 1_000, 10_000, None))


def looked(
    asker: Asker, gains_from: int, others: dict[tuple[str, str], Panel] | None = None
) -> tuple[Panel, list[int]]:
    """Search budgets, of which those from a place on gain; return the panel, and the places that were looked at."""
    seen = []

    def look(budget: int | None) -> Record:
        at = asker.budgets.index(budget)
        seen.append(at)
        return of("soft-kd", alpha=asker.alpha) if at >= gains_from else of(alpha=asker.alpha)

    return panel(asker, others or {}, look), seen


HOSTILE = "<script>alert(1)</script>|**v1**\u202e.pt"


@cache
def document(teacher: str = "v1.pt") -> Limit:
    few, _ = looked(ASKER, 2)
    none, _ = looked(ASKER._replace(hold="0.1"), 0)
    free = panel(ASKER._replace(surface="label"), {}, lambda _: strong(of(alpha=ASKER.alpha)))
    return Limit(
        command="audit limit",
        teacher=teacher,
        sha256="a" * 64,
        task="glyphs",
        student="strided-8-16-32",
        suite="gate-1",
        suite_digest="b" * 64,
        delta=0.005,
        error=ALPHA,
        grid=(100, 1_000, 10_000),
        panels=(few, none, free),
        tool="0",
        created="2026-11-30T00:00:00+00:00",
    )
