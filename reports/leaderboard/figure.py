"""Draw the margins of several audits in one figure."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import svg
from reports.leaderboard.board import Leaderboard
from reports.record import Interval
from reports.svg import PALETTE
from reports.wording import points, span

FEW: Final = 4  # with more audits, the figure shows only the largest margins
MOST_ROWS: Final = 100
STEP: Final = 0.085  # inches between the marks of a row
_LOOKS: Final = (("blue", "o"), ("orange", "s"), ("green", "^"), ("purple", "D"))


class Row(NamedTuple):
    """An attack with its margin in every audit, or an audit with its largest margin."""

    name: str
    margins: tuple[Interval | None, ...]


def margins(board: Leaderboard) -> str:
    """Draw every attack in every audit or, for many audits, only the largest margins; with 95 % intervals."""
    few = len(board.entries) <= FEW
    rows = [Row(line.attack, line.margins) for line in board.lines] if few else []
    rows = (rows or [Row(e.name, (e.margin,)) for e in board.entries])[:MOST_ROWS]
    keys = [e.name for e in board.entries] if few else []
    inches = max(0.25, 0.09 + STEP * len(rows[0].margins))
    left, right = _scale(board, rows)
    with svg.styled():
        figure = Figure(figsize=(svg.WIDTH, 0.75 + inches * (len(rows) + len(keys))))
        height = figure.get_figheight()
        axes = figure.add_axes((0.26, 0.5 / height, 0.72 if few else 0.46, 1 - 0.62 / height))
        axes.set(xlim=(left, right), ylim=(len(rows) - 0.4, -len(keys) - 0.6))
        svg.margin_axis(axes, left, board.delta)
        for look, name in enumerate(keys):
            _key(axes, look - len(keys), name, look)
        for y, row in enumerate(rows):
            _row(axes, y, row, STEP / inches, left)
        return svg.text(figure, "margins", _label(board))


def _scale(board: Leaderboard, rows: list[Row]) -> tuple[float, float]:
    """Return the ends of the axis in points: all positive values fit, very negative ones are off scale."""
    found = [m for row in rows for m in row.margins if m is not None]
    ends = [(m.low, m.high) for m in found if np.isfinite([m.low, m.high]).all()]
    right = max([200 * board.delta, 1.0, *(115 * high for _, high in ends)])
    return max(min([-right / 2, *(115 * low for low, _ in ends)]), -1.5 * right), right


def _key(axes: Axes, y: int, name: str, look: int) -> None:
    """Draw the legend entry of one audit's mark."""
    colour, marker = _LOOKS[look]
    across = axes.get_yaxis_transform()
    axes.plot([-0.33], [y], marker=marker, color=PALETTE[colour], markersize=6, linestyle="none", transform=across)
    axes.text(-0.3, y, svg.plain(name, 60), va="center", color=PALETTE["ink"], fontsize=10, transform=across)


def _row(axes: Axes, y: int, row: Row, step: float, left: float) -> None:
    """Draw one row: its name, its marks, and the number if there is only one."""
    beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 10}
    alone = len(row.margins) == 1
    axes.text(-0.5 if alone else -0.33, y, svg.plain(row.name, 22), color=PALETTE["ink"], **beside)
    for look, margin in enumerate(row.margins):
        if margin is not None and np.isfinite(margin.mean):
            _mark(axes, y + (look - (len(row.margins) - 1) / 2) * step, margin, look, left)
    if alone:
        margin = row.margins[0]
        told = "not judged" if margin is None else f"{points(margin.mean)} {span(margin)}"
        axes.text(1.04, y, told, color=PALETTE["muted" if margin is None else "ink"], **beside)


def _mark(axes: Axes, y: float, margin: Interval, look: int, left: float) -> None:
    mean, low, high = (100 * value for value in (margin.mean, margin.low, margin.high))
    name, marker = _LOOKS[look]
    colour = PALETTE[name]
    if mean < left:
        axes.plot([left], [y], marker="<", color=colour, linestyle="none")
    else:
        axes.plot(np.clip([low, high], *axes.get_xlim()), [y, y], color=colour, linewidth=1.6)
        if low < left:
            axes.plot([left], [y], marker="<", color=colour, linestyle="none", markersize=4)
        axes.plot([mean], [y], linestyle="none", color=colour, marker=marker, markersize=5)


def _label(board: Leaderboard) -> str:
    told = (
        f"{svg.plain(e.name, 40)} {'not judged' if e.margin is None else points(e.margin.mean)}" for e in board.entries
    )
    return f"Largest margins over the control in points, the smallest first: {', '.join(told)}."
