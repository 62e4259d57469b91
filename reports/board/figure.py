"""Draw a panel: the accuracy of every teacher against the gain that no attack surely reaches."""

from __future__ import annotations

from typing import Any, Final

from matplotlib.figure import Figure

from reports import svg
from reports.board.document import Panel, Row
from reports.svg import PALETTE
from reports.wording import percent, points

NEAR: Final = (0.25, 0.06)  # shares of the axes within which two names would meet
Place = tuple[float, float]  # in points and per cent


def trade(panel: Panel) -> str | None:
    """Draw accuracy against the upper end of the largest gain; None where no teacher has one."""
    rows = [row for row in panel.rows if row.largest is not None]
    if not rows:
        return None
    with svg.styled():
        figure = Figure(figsize=(svg.WIDTH, 4.2))
        axes = figure.add_axes((0.11, 0.14, 0.86, 0.82))
        axes.set(xlabel="every attack surely gains less than, points", ylabel="accuracy of the teacher, %")
        axes.axvspan(axes.get_xlim()[0] - 1e3, 100 * panel.delta, color=PALETTE["band"], zorder=0)
        for row in rows:
            _mark(axes, row)
        front = sorted(_place(row) for row in rows if row.undominated)
        axes.plot(*zip(*front, strict=True), color=PALETTE["blue"], linewidth=1, linestyle=(0, (4, 2)), zorder=1)
        highs = [_place(row)[0] for row in rows]
        room = max(1.0, 0.12 * (max(highs) - min(highs)))
        axes.set_xlim(min(highs) - room, max(highs) + 3 * room)
        for at, name in _named(rows, axes.get_xlim(), axes.get_ylim()):
            beside: dict[str, Any] = {"textcoords": "offset points", "fontsize": 10, "color": PALETTE["ink"]}
            axes.annotate(svg.plain(name, 24), at, (6, 4), **beside)
        return svg.text(figure, "trade", _label(rows))


def _named(rows: list[Row], across: tuple[float, float], up: tuple[float, float]) -> list[tuple[Place, str]]:
    """Return the best trades that have room for a name; the table has all names."""
    width, height = (share * (end - begin) for share, (begin, end) in zip(NEAR, (across, up), strict=True))
    found: list[tuple[Place, str]] = []
    for row in rows:
        x, y = _place(row)
        near = (abs(x - a) < width and abs(y - b) < height for (a, b), _ in found)
        if row.undominated and not any(near):
            found.append(((x, y), row.entry.name))
    return found


def _mark(axes: Any, row: Row) -> None:
    x, y = _place(row)
    low, high = (100 * end for end in (row.entry.accuracy_low, row.entry.accuracy_high))
    colour = PALETTE["blue" if row.undominated else "muted"]
    axes.vlines([x], [low], [high], color=colour, linewidth=1.2)
    axes.plot([x], [y], marker="o" if row.undominated else "s", linestyle="none", color=colour)


def _place(row: Row) -> Place:
    assert row.largest is not None
    return 100 * row.largest.high, 100 * row.entry.accuracy


def _label(rows: list[Row]) -> str:
    told = (
        f"{svg.plain(row.entry.name, 40)} {points(row.largest.high if row.largest else None)} at "
        f"{percent(row.entry.accuracy, 1)}"
        for row in rows
    )
    return f"What every attack surely gains less than, in points, and the teacher's accuracy: {', '.join(told)}."
