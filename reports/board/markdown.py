"""Render the board in GitHub's Markdown."""

from __future__ import annotations

from reports.board import wording as telling
from reports.board.document import Board, Panel, Row
from reports.leaderboard.wording import gap, judged, price
from reports.markdown import escape, table
from reports.wording import count, number, percent

_HEADINGS = (
    *("Place", "Teacher", "Defence", "Every attack gains less than, points", "Attack", "Verdict", "Teacher accuracy"),
    *("Passive, points", "Adaptive, points", "Gap, points", "Largest CMI, nats", "Queries", "Cost", "Attacks judged"),
    *("Measured", "By"),
)


def render(board: Board) -> str:
    """Return all panels."""
    parts = [f"## {escape(telling.title(board))}", telling.ORDER, telling.SIDES]
    for panel in board.panels:
        parts += _panel(panel)
    return "\n\n".join(parts) + "\n"


def _panel(panel: Panel) -> list[str]:
    return [
        f"### {escape(panel.title)}",
        f"**{escape(telling.sentence(panel))}**",
        table(_HEADINGS, (_row(row) for row in panel.rows)),
        escape(telling.cmi(panel.cmi)),
        *(escape(remark) for remark in telling.remarks(panel)),
        "; ".join(f"{what} {escape(value)}" for what, value in panel.question) + ".",
    ]


def _row(row: Row) -> tuple[str, ...]:
    e = row.entry
    return (
        str(e.rank),
        escape(e.name) + " \\*" * row.undominated,
        escape(row.defence),
        telling.upper(row),
        escape(telling.attack(row.largest)),
        e.word,
        percent(e.accuracy),
        *(f"{escape(telling.attack(g))} {telling.gain(g)}" for g in (row.passive, row.adaptive)),
        gap(row.gap),
        number(e.cmi),
        count(e.queries),
        price(e),
        judged(e),
        e.created[:10],
        escape(row.by),
    )
