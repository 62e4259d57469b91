"""Terminal output of `audit board`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reports import terminal
from reports.board import wording as telling
from reports.board.document import Board, Row
from reports.leaderboard.wording import gap
from reports.wording import percent

HEADS = (
    "place",
    "teacher",
    "defence",
    "every attack gains less than",
    "accuracy",
    "passive one",
    "adaptive one",
    "gap",
)


def print_board(board: Board, written: Sequence[Path]) -> None:
    """Print every panel for a person; numbers are in points."""
    terminal.say(telling.title(board))
    for panel in board.panels:
        terminal.say("")
        terminal.say(panel.title)
        terminal.say(telling.sentence(panel))
        terminal.table(HEADS, map(_row, panel.rows))
        terminal.say(telling.cmi(panel.cmi))
    for path in written:
        terminal.say(str(path), whole=True)


def print_board_json(board: Board, written: Sequence[Path]) -> None:
    """Print the board as JSON; margins are fractions."""
    terminal.data({**board.model_dump(mode="json"), "files": [str(path) for path in written]})


def _row(row: Row) -> tuple[str, ...]:
    e, sides = row.entry, (telling.gain(row.passive), telling.gain(row.adaptive), gap(row.gap))
    return str(e.rank), e.name, row.defence, telling.upper(row), percent(e.accuracy, 1), *sides
