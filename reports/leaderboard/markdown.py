"""Render several audits side by side in GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from reports.leaderboard import wording as telling
from reports.leaderboard.board import Leaderboard
from reports.markdown import escape, table
from reports.wording import count, number, percent, points, probability, span

_HEADINGS = (
    *("Rank", "Teacher", "Verdict", "Largest margin, points", "95 % interval", "Floor", "Strongest attack"),
    *("Over the previous place", "Teacher accuracy", "Largest CMI, nats", "Queries", "Cost", "Attacks judged"),
)


def render(board: Leaderboard) -> str:
    """Return the leaderboard, every attack in every audit and, for two audits, the differences."""
    parts = [
        f"## {escape(telling.title(board))}",
        f"**{escape(telling.sentence(board))}**",
        "; ".join(f"{what} {escape(value)}" for what, value in board.question) + ".",
        table(_HEADINGS, (_entry(board, i) for i in range(len(board.entries)))),
        telling.RANKING,
        *(escape(remark) for remark in telling.remarks(board)),
        "### Attacks",
        table(("Attack", *(escape(e.name) for e in board.entries)), _lines(board)),
        f"Margins over the control in points, two-sided 95 % intervals. Tolerance {points(board.delta)} points.",
        *_differences(board),
    ]
    return "\n\n".join(parts) + "\n"


def _entry(board: Leaderboard, place: int) -> tuple[str, ...]:
    e = board.entries[place]
    return (
        str(e.rank),
        escape(e.name),
        e.word,
        points(None if e.margin is None else e.margin.mean),
        span(e.margin),
        points(e.corrected_lower),
        escape(e.strongest),
        telling.gap(e.above),
        percent(e.accuracy),
        number(e.cmi),
        count(e.queries),
        telling.price(e),
        telling.judged(e),
    )


def _lines(board: Leaderboard) -> Iterable[tuple[str, ...]]:
    for line in board.lines:
        cells = zip(line.margins, line.statuses, strict=True)
        yield escape(line.attack), *(status if m is None else f"{points(m.mean)} {span(m)}" for m, status in cells)


def _differences(board: Leaderboard) -> tuple[str, ...]:
    if board.pair is None:
        return ()
    first, second = (escape(name) for name in board.pair)
    rows = (
        (
            escape(d.attack),
            telling.gap(d),
            probability(d.p_holm).replace("<", "&lt;"),
            f"{d.seeds[0]}, {d.seeds[1]}",
            number(d.discordant, 1),
        )
        for d in board.differences
    )
    heads = ("Attack", "Difference, points", "Holm p", "Seeds", "Discordant images a seed")
    return f"### Margins of {second} minus those of {first}", table(heads, rows), telling.DIFFERENCES
