"""Draw the figures of the report, each as one inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from reports import bag_figure, svg
from reports.bag import Concentrations
from reports.record import CMICurve, Comparison, Record
from reports.svg import PALETTE
from reports.wording import HOLDS, gain, outcome, points, supports, sure

MOST_CLASSES: Final = 100
CONTROLS: Final = "no teacher: controls"
# By the first word of an outcome, and for controls: colour and mark.
_OUTCOMES: Final = {
    "gains": ("orange", "D"),
    "may": ("blue", "o"),
    "cannot": ("green", "v"),
    "control": ("purple", "s"),
}
_LINES: Final = (("blue", "o", "-"), ("orange", "s", "--"), ("green", "^", "-."), ("purple", "D", ":"))


def margins(record: Record) -> str:
    """Draw each attack's margin over its control, then those of the controls.

    A thick bar is the 95 % interval of the last look, a thin whisker the interval that decides (`wording.sure`).
    """
    rows = _rows(record)
    left, right = _scale(record)
    with svg.styled():
        figure = Figure(figsize=(svg.WIDTH, 0.8 + 0.25 * len(rows)))
        axes = figure.add_axes((0.25, 0.5 / figure.get_figheight(), 0.45, 1 - 0.75 / figure.get_figheight()))
        axes.set(xlim=(left, right), ylim=(len(rows) - 0.4, -0.6))
        svg.margin_axis(axes, left, record.verdict.delta)
        beside: dict[str, Any] = {
            "transform": axes.get_yaxis_transform(),
            "va": "center",
            "color": PALETTE["muted"],
            "fontsize": 10,
        }
        axes.text(1.03, 0, "margin [sure range]", **beside)
        axes.text(0, -0.75, "control", ha="center", va="bottom", color=PALETTE["muted"], fontsize=10)
        for y, row in enumerate(rows):
            if isinstance(row, str):
                axes.text(-0.55, y, row, **beside)
            else:
                _row(axes, y, row, record, left)
        return svg.text(figure, "margins", _margins_label(record))


def _rows(record: Record) -> list[Comparison | str]:
    """Return the attacks by threat model, best first, then the controls; a heading starts each group."""
    rows: list[Comparison | str] = []
    groups = [(heading, [c for c in record.comparisons if c.holds == holds]) for holds, heading in HOLDS.items()]
    for heading, group in (*groups, (CONTROLS, record.controls)):
        if group:
            rows += [heading, *sorted(group, key=lambda c: -(c.margin.mean if c.margin else -9.0))]
    return rows


def _scale(record: Record) -> tuple[float, float]:
    """Return the ends of the axis in points: all positive values fit, and negative ones of attacks on original data."""
    found = [(c, c.margin) for c in (*record.comparisons, *record.controls) if c.margin is not None]
    finite = [(c, m) for c, m in found if np.isfinite([m.low, m.high]).all()]
    highest = [max(m.high, sure(c, record)[1] if supports(m) else m.high) for c, m in finite]
    right = max([200 * record.verdict.delta, 1.0, *(115 * high for high in highest)])
    low = min([-right / 2, *(115 * m.low for c, m in finite if c.holds == "original")])
    return max(low, -4 * right), right


def _row(axes: Axes, y: int, row: Comparison, record: Record, left: float) -> None:
    """Draw one attack or control: name, intervals and numbers."""
    beside = axes.get_yaxis_transform()
    axes.text(-0.52, y, svg.plain(record.name_of(row)), transform=beside, va="center")
    said = outcome(row, record)
    if row.margin is None:
        axes.text(1.03, y, said, transform=beside, va="center", color=PALETTE["muted"], fontsize=10)
        return
    look = "control" if row in record.controls else said.split()[0]
    colour = PALETTE[_OUTCOMES[look][0]]
    decides = sure(row, record)
    axes.text(1.03, y, gain(row, record), transform=beside, va="center", fontsize=10)
    mean, low, high = (100 * v for v in (row.margin.mean, row.margin.low, row.margin.high))
    if not np.isfinite(mean):
        return
    if mean < left:
        axes.plot([left], [y], marker="<", linestyle="none", color=colour, markersize=6)
        aside: dict[str, Any] = {
            "textcoords": "offset points",
            "va": "center",
            "color": PALETTE["muted"],
            "fontsize": 10,
        }
        axes.annotate("off scale", (left, y), (8, 0), **aside)
        return
    axes.plot(np.clip(np.multiply(100, decides), *axes.get_xlim()), [y, y], color=colour, linewidth=0.9)
    axes.plot(np.clip([low, high], *axes.get_xlim()), [y, y], color=colour, linewidth=3.2, solid_capstyle="butt")
    if min(low, 100 * decides[0]) < left:
        axes.plot([left], [y], marker="<", color=colour, linestyle="none", markersize=4)
    face = colour if row.passes else PALETTE["paper"]
    mark: dict[str, Any] = {"marker": _OUTCOMES[look][1], "markerfacecolor": face, "markersize": 6}
    axes.plot([mean], [y], linestyle="none", color=colour, markeredgewidth=1.6, **mark)


def _margins_label(record: Record) -> str:
    of_attacks, of_controls = (
        ", ".join(f"{svg.plain(record.name_of(c))} {points(c.margin.mean)}" for c in rows if c.margin is not None)
        for rows in (record.comparisons, record.controls)
    )
    controls = f" Controls, without a teacher: {of_controls}." if of_controls else ""
    return f"Margins over the control in points: {of_attacks or 'none'}.{controls}"


def cmi_curve(pools: Sequence[CMICurve], bag: Concentrations | None = None) -> str | None:
    """Draw CMI, with a band of ±1.96 standard errors, and NCMI against the temperature; None without pools.

    To the right, it shows the largest CMI of each teacher in a reference bag, which stores no curves.
    """
    if not pools:
        return None
    with svg.styled():
        figure = Figure(figsize=(svg.WIDTH, 4.6))
        width = 0.86 if bag is None else 0.64
        upper = figure.add_axes((0.11, 0.53, width, 0.38))
        lower = figure.add_axes((0.11, 0.11, width, 0.34))
        for pool, (colour, marker, line) in zip(pools, _LINES, strict=False):
            look: dict[str, Any] = {"color": PALETTE[colour], "marker": marker, "linestyle": line, "label": pool.name}
            cmi, se = np.array(pool.cmi), 1.96 * np.array(pool.se)
            band: dict[str, Any] = {"color": PALETTE[colour], "alpha": 0.18, "linewidth": 0}
            upper.fill_between(pool.temperatures, np.maximum(cmi - se, 0), cmi + se, **band)
            upper.plot(pool.temperatures, cmi, **look)
            lower.plot(pool.temperatures, pool.ncmi, **look)
        for axes, name in ((upper, "CMI, nats"), (lower, "NCMI")):
            axes.set_xscale("log")
            svg.log_axis(axes.xaxis)
            axes.axvline(1, color=PALETTE["muted"], linewidth=0.8, linestyle=(0, (3, 2)))
            axes.set_ylabel(name)
            axes.set_ylim(bottom=0)
        upper.tick_params(labelbottom=False)
        lower.set_xlabel("temperature")
        upper.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, borderpad=0.2)
        if bag is not None:
            bag_figure.strip(upper, bag)
        return svg.text(figure, "cmi", " ".join([*map(peak, pools), *([] if bag is None else [bag_figure.said(bag)])]))


def peak(pool: CMICurve) -> str:
    """Write a pool's largest CMI and its temperature."""
    top = int(np.argmax(pool.cmi))
    return (
        f"{pool.name.capitalize()}: largest CMI {pool.cmi[top]:.3f} nats, at temperature {pool.temperatures[top]:.3g}."
    )


def among(pools: Sequence[CMICurve], bag: Concentrations | None) -> list[str]:
    """Compare a teacher's largest CMI on validation images with a bag's, in a sentence; empty without such images."""
    own = [max(pool.cmi) for pool in pools if pool.name == "validation"]
    if not own:
        return []
    if bag is None:
        return ["There are no reference teachers for this data: compare it with teachers of your own (audit cmi)."]
    larger = sum(value > own[0] for value in bag.values)
    return [f"{bag_figure.said(bag)} On validation images {larger} of them are less concentrated than this teacher."]


def cmi_per_class(
    pools: Sequence[CMICurve], classes: Sequence[str], se: Sequence[float | None] | None = None
) -> str | None:
    """Draw each class's CMI on validation images at temperature 1, largest first; None without such a pool.

    `se`: standard errors by class, drawn as lines of ±1.96 standard errors.
    """
    pool = next((pool for pool in pools if pool.name == "validation"), None)
    if pool is None:
        return None
    rows = zip(pool.per_class, classes, se or [None] * len(classes), strict=False)
    ranked = sorted(((v, name, 1.96 * (e or 0)) for v, name, e in rows if v is not None), reverse=True)[:MOST_CLASSES]
    if not ranked:
        return None
    columns = 1 if len(ranked) <= 12 else 2
    length = -(-len(ranked) // columns)
    with svg.styled():
        figure = Figure(figsize=(svg.WIDTH, 0.6 + 0.165 * length))
        foot, height = 0.5 / figure.get_figheight(), length * 0.165 / figure.get_figheight()
        for column in range(columns):
            width = 0.8 if columns == 1 else 0.34
            axes = figure.add_axes((0.14 + 0.5 * column, foot, width, height))
            _bars(axes, ranked[column * length : (column + 1) * length], length, max(v + e for v, _, e in ranked))
        label = f"CMI per class on validation images; largest for {svg.plain(ranked[0][1])} ({ranked[0][0]:.3f} nats)."
        return svg.text(figure, "classes", label)


def _bars(axes: Axes, ranked: list[tuple[float, str, float]], length: int, top: float) -> None:
    """Draw one column of bars as a single outline, with each bar's interval as a line."""
    axes.set(xlim=(0, max(top, 1e-6)), ylim=(length - 0.5, -0.5), xlabel="CMI, nats")
    axes.set_yticks(range(len(ranked)), [svg.plain(name, 13) for _, name, _ in ranked], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    boxes = [
        Outline([(0, y - 0.36), (v, y - 0.36), (v, y + 0.36), (0, y + 0.36)]) for y, (v, _, _) in enumerate(ranked)
    ]
    axes.add_patch(PathPatch(Outline.make_compound_path(*boxes), color=PALETTE["blue"], linewidth=0))
    if any(e for _, _, e in ranked):
        ends = np.array([(max(v - e, 0), v + e) for v, _, e in ranked])
        axes.hlines(range(len(ranked)), *ends.T, color=PALETTE["ink"], linewidth=1)
