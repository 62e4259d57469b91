"""Render the board as one page that needs no network and no other file, and is complete without its script."""

from __future__ import annotations

from markupsafe import Markup

from reports import wording
from reports.board import figure
from reports.board import wording as telling
from reports.board.document import Board
from reports.html import environment, script
from reports.leaderboard import wording as beside


def render(board: Board) -> str:
    """Return the page; equal boards give equal text."""
    drawn = [figure.trade(panel) for panel in board.panels]
    return (
        environment()
        .get_template("board.html.j2")
        .render(
            board=board,
            figures={str(i): Markup(text) for i, text in enumerate(drawn) if text},  # ElementTree has escaped the names
            telling=telling,
            beside=beside,
            wording=wording,
            script=script("sort"),
        )
    )
