"""Render several audits side by side as one page that needs no network, no script and no other file."""

from __future__ import annotations

from markupsafe import Markup

from reports import wording
from reports.html import environment
from reports.leaderboard import figure
from reports.leaderboard import wording as telling
from reports.leaderboard.board import Leaderboard


def render(board: Leaderboard) -> str:
    """Return the page; equal leaderboards give equal text."""
    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            board=board,
            figures={"margins": Markup(figure.margins(board))},  # ElementTree has escaped the names in it
            few=len(board.entries) <= figure.FEW,
            telling=telling,
            wording=wording,
        )
    )
