"""Terminal output of `audit compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from reports import terminal
from reports.leaderboard import wording as telling
from reports.leaderboard.board import Leaderboard
from reports.svg import plain
from reports.wording import number, percent, points, probability, span

LONGEST: Final = 60  # characters of a name


def print_comparison(board: Leaderboard, written: Sequence[Path]) -> None:
    """Print a leaderboard for a person."""
    terminal.say(telling.title(board))
    terminal.say(plain(telling.sentence(board), 3 * LONGEST))
    _print_places(board)
    if board.pair is not None:
        now, before = (plain(name, LONGEST) for name in board.pair[::-1])
        terminal.say(f"Margins of {now} minus those of {before}:")
        _print_differences(board)
    for line in (*telling.remarks(board), *map(str, written)):
        terminal.say(line, whole=True)


def print_comparison_json(board: Leaderboard, written: Sequence[Path]) -> None:
    """Print a leaderboard as JSON; margins are fractions."""
    terminal.data({**board.model_dump(mode="json"), "files": [str(path) for path in written]})


def _print_places(board: Leaderboard) -> None:
    rows = []
    for e in board.entries:
        margin = points(None) if e.margin is None else f"{points(e.margin.mean)} {span(e.margin)}"
        told = (percent(e.accuracy, 1), number(e.cmi), telling.judged(e))
        rows.append(
            (str(e.rank), e.name, e.word, margin, points(e.corrected_lower), e.strongest, telling.gap(e.above), *told)
        )
    heads = (
        "rank",
        "teacher",
        "verdict",
        "largest margin, points (95 %)",
        "floor",
        "strongest",
        "over the previous place",
    )
    _print_table((*heads, "accuracy", "CMI", "judged"), rows)


def _print_differences(board: Leaderboard) -> None:
    rows = [(d.attack, telling.gap(d), probability(d.p_holm), f"{d.seeds[0]}, {d.seeds[1]}") for d in board.differences]
    _print_table(("attack", "difference, points (95 %)", "Holm p", "seeds"), rows)


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    terminal.table(heads, ([plain(cell, LONGEST) for cell in row] for row in rows))
