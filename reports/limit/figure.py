"""Draw the map of the threat model: queries × attacker, a panel for every surface."""

from __future__ import annotations

from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import svg
from reports.limit import wording
from reports.limit.document import Cell, Limit, Outcome, Panel
from reports.svg import PALETTE
from reports.wording import count

LOOKS: Final[dict[Outcome | None, tuple[str, str]]] = {  # colour and mark: not by colour alone
    "safe": ("blue", "safe"),
    "gains": ("orange", "gains"),
    "open": ("muted", "?"),
    None: ("muted", ""),
}
ROW: Final = 0.36  # inches


def drawn(limit: Limit) -> str:
    """Return the map as SVG."""
    surfaces = list(dict.fromkeys(panel.surface for panel in limit.panels))
    budgets = [*sorted({c.budget for p in limit.panels for c in p.cells if c.budget is not None}), None]
    rows = [[panel for panel in limit.panels if panel.surface == surface] for surface in surfaces]
    heights = [ROW * len(panels) + 0.85 for panels in rows]
    with svg.styled():
        figure = Figure(figsize=(svg.WIDTH, sum(heights)))
        top = sum(heights)
        for surface, panels, height in zip(surfaces, rows, heights, strict=True):
            whole = sum(heights)
            below = top - height
            axes = figure.add_axes((0.27, (below + 0.45) / whole, 0.71, (height - 0.8) / whole))
            _panel(axes, surface, panels, budgets)
            top = below
        return svg.text(figure, "limit", _label(limit))


def _panel(axes: Axes, surface: str, panels: list[Panel], budgets: list[int | None]) -> None:
    axes.grid(False)
    axes.set(xlim=(-0.5, len(budgets) - 0.5), ylim=(len(panels) - 0.5, -0.5))
    axes.set_xticks(range(len(budgets)), [_short(budget) for budget in budgets])
    axes.set_yticks(range(len(panels)), [svg.plain(wording.holder(panel.hold), 30) for panel in panels])
    axes.tick_params(length=0)
    axes.set_title(svg.plain(surface, 60))
    for spine in axes.spines.values():
        spine.set_visible(False)
    for y, panel in enumerate(panels):
        for cell in panel.cells:
            _cell(axes, budgets.index(cell.budget), y, cell)


def _cell(axes: Axes, x: int, y: int, cell: Cell) -> None:
    colour, mark = LOOKS[cell.outcome]
    strong = cell.audited
    axes.barh(
        [y],
        [0.94],
        left=[x - 0.47],
        height=0.84,
        color=PALETTE[colour if strong else "paper"],
        edgecolor=PALETTE[colour],
        linewidth=1,
    )
    ink = PALETTE["paper" if strong else colour]
    axes.text(x, y, mark, ha="center", va="center", fontsize=9.5, color=ink)


def _short(budget: int | None) -> str:
    return "no limit" if budget is None else f"{budget // 1000}k" if budget >= 10_000 else count(budget)


def _label(limit: Limit) -> str:
    told = (
        f"through {panel.surface}, {wording.holder(panel.hold)}: safe up to {wording.budget(panel.safe)}"
        for panel in limit.panels
    )
    return (
        f"Budgets of queries that are safe, by surface and attacker: {'; '.join(svg.plain(one, 200) for one in told)}."
    )
