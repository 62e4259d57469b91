"""What a page holds, and the names that strangers would have it hold."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from record_changes import updated
from sample_record import sample_record

from audit.board.rows import Submission, board
from audit.finished.side_by_side import NamedRecord, side_by_side
from reports.board.document import Board
from reports.leaderboard.board import Leaderboard
from reports.record import Record, Word

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "attribute": "\" onload='alert(1)' x=\"",
    "svg": "</text></svg><img src=x onerror=alert(1)>",
    "style": "</style><style>@import url(https://a.example/b)",
    "table": "a|b\\|c`d`*e*_f_[g](https://a.example)\n| h |\n# i <!-- j -->",
    "long": "n" * 300,
    "wide": "😀 日本語 ἄλφα",
    "right to left": "\u202eמודל\u202c مرحبا",
    "control": "a\x00b\x07c\x1bd\ufffee",
    "mathematics": "$\\frac{1}{0}$ $",
    "template": "{{ 7 * 7 }}{% raw %}",
    "nothing": "",
}
WORDS: tuple[Word, ...] = ("DISTILLABLE", "UNDISTILLABLE", "INCONCLUSIVE")


class Page(HTMLParser):
    """Collect what a page contains."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def infested() -> Record:
    """Return a record with every hostile text as attack, class, teacher and flag."""
    names = tuple(HOSTILE.values())
    record = sample_record(hostile=" ".join(names))
    rows = [record.comparisons[1].model_copy(update={"attack": n, "title": n, "paper": n}) for n in names]
    task = record.task.model_copy(update={"classes": (*names, *record.task.classes[len(names) :])})
    settings = replace(record.settings, drop_classes=names, student=" ".join(names))
    told = {"comparisons": (*rows, *record.comparisons), "task": task, "settings": settings}
    return record.model_copy(update=told)


def infested_board(first: Record, count: int) -> Leaderboard:
    """Return audits of hostile names, with a hostile attack."""
    return side_by_side([NamedRecord(f"place {i}", record) for i, record in enumerate(infested_records(first, count))])


def infested_panels(first: Record) -> Board:
    """Return the same audits on the board, with hostile defences; their margins differ."""
    records = infested_records(first, 9)
    lifted = [lifting(record, 0.01 * i) for i, record in enumerate(records)]
    return board([Submission(f"place {i}", r, r.teacher.name, r.teacher.name) for i, r in enumerate(lifted)])


def lifting(record: Record, lift: float) -> Record:
    """Return a record whose margins are larger."""
    rows = [
        updated(row, {"margin.mean": row.margin.mean + lift, "margin.upper": row.margin.upper + lift})
        if row.margin
        else row
        for row in record.comparisons
    ]
    return record.model_copy(update={"comparisons": tuple(rows)})


def infested_records(first: Record, count: int) -> list[Record]:
    """Return audits of hostile names, with a hostile attack, without their students."""
    names = [" ".join(HOSTILE.values()), *HOSTILE.values()][:count]
    rows = (first.comparisons[0].model_copy(update={"attack": names[0], "title": names[0]}), *first.comparisons[1:])
    records = [
        first.model_copy(
            update={
                "audit": f"{i:064x}",
                "teacher": first.teacher.model_copy(update={"name": name, "sha256": f"{i:064x}", "method": name}),
                "comparisons": rows,
                "trials": (),
            }
        )
        for i, name in enumerate(names)
    ]
    return [r.model_copy(update={"comparisons": tuple(_bare(c) for c in r.comparisons)}) for r in records]


def _bare(row: Any) -> Any:
    return updated(row, {"knockoff.students": (), "control.students": (), "baseline": None})
