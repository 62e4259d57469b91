"""Draw the margins of several audits in one figure."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reports import svg
from reports.leaderboard.board import Leaderboard
from reports.record import Interval
from reports.svg import PALETTE
from reports.wording import points, span

FEW: Final = 4  # records: of more, the figure shows the largest margins alone
MOST_ROWS: Final = 120
ROW: Final = 0.25  # inches
_LOOKS: Final = (("blue", "o"), ("orange", "s"), ("green", "^"), ("purple", "D"))


class Dot(NamedTuple):
    """One margin, and how it looks: the number of its record among the few."""

    name: str
    margin: Interval | None
    look: int


def margins(board: Leaderboard) -> str:
    """Draw the largest margin of every audit and, of a few audits, those of all attacks, with 95 % intervals."""
    rows = _rows(board)
    left, right = _scale(board, rows)
    with svg.styled():
        figure = Figure(figsize=(svg.WIDTH, 0.75 + ROW * len(rows)))
        height = figure.get_figheight()
        axes = figure.add_axes((0.3, 0.5 / height, 0.41, 1 - 0.62 / height))
        axes.set(
            xlim=(left, right), ylim=(len(rows) - 0.4, -0.6), yticks=[], xlabel="margin over the LS student, points"
        )
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:+g}".replace("-", "−") if x else "0"))
        axes.axvspan(left, 100 * board.delta, color=PALETTE["band"], linewidth=0)
        axes.axvline(0, color=PALETTE["ink"], linewidth=1)
        axes.axvline(100 * board.delta, color=PALETTE["muted"], linewidth=0.8, linestyle=(0, (3, 2)))
        for y, row in enumerate(rows):
            if isinstance(row, str):
                beside = axes.get_yaxis_transform()
                axes.text(-0.72, y, row, transform=beside, va="center", color=PALETTE["muted"], fontsize=10)
            else:
                _dot(axes, y, row, left)
        return svg.text(figure, "margins", _label(board))


def _rows(board: Leaderboard) -> list[Dot | str]:
    """Return the rows from top to bottom: a heading, or a margin."""
    few = len(board.entries) <= FEW
    looks = [i if few else 0 for i in range(len(board.entries))]
    rows: list[Dot | str] = ["largest margin"]
    rows += [Dot(e.name, e.margin, look) for e, look in zip(board.entries[:MOST_ROWS], looks, strict=False)]
    for line in board.lines if few else ():
        if len(rows) + len(board.entries) >= MOST_ROWS:
            break
        rows.append(svg.plain(line.attack, 40))
        rows += [Dot(e.name, m, look) for e, m, look in zip(board.entries, line.margins, looks, strict=True)]
    return rows


def _scale(board: Leaderboard, rows: list[Dot | str]) -> tuple[float, float]:
    """Return the ends of the axis in points: all above zero fits, what is far below is off scale."""
    found = [row.margin for row in rows if isinstance(row, Dot) and row.margin is not None]
    ends = [(m.low, m.high) for m in found if np.isfinite([m.low, m.high]).all()]
    right = max([200 * board.delta, 1.0, *(115 * high for _, high in ends)])
    return max(min([-right / 2, *(115 * low for low, _ in ends)]), -1.5 * right), right


def _dot(axes: Axes, y: int, row: Dot, left: float) -> None:
    """Draw one margin: name, interval, numbers."""
    beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 10}
    axes.text(-0.7, y, svg.plain(row.name, 22), color=PALETTE["ink"], **beside)
    if row.margin is None or not np.isfinite(row.margin.mean):
        axes.text(1.04, y, "not judged", color=PALETTE["muted"], **beside)
        return
    mean, low, high = (100 * value for value in (row.margin.mean, row.margin.low, row.margin.high))
    name, marker = _LOOKS[row.look]
    colour = PALETTE[name]
    if mean < left:
        axes.plot([left], [y], marker="<", color=colour, linestyle="none")
        axes.text(left, y, "   off scale", va="center", color=PALETTE["muted"], fontsize=10)
    else:
        axes.plot(np.clip([low, high], *axes.get_xlim()), [y, y], color=colour, linewidth=1.8)
        axes.plot([mean], [y], linestyle="none", color=colour, marker=marker, markersize=6)
    axes.text(1.04, y, f"{points(row.margin.mean)} {span(row.margin)}", color=PALETTE["ink"], **beside)


def _label(board: Leaderboard) -> str:
    told = (
        f"{svg.plain(e.name, 40)} {'not judged' if e.margin is None else points(e.margin.mean)}" for e in board.entries
    )
    return f"Largest margins over the LS student in points, the smallest first: {', '.join(told)}."
