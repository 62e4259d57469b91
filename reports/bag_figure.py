"""Draw a reference bag beside a curve: one tick for every teacher, with names where there is room."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

from matplotlib.axes import Axes

from reports import svg
from reports.bag import Concentrations, Method
from reports.svg import PALETTE

APART: Final = 0.1  # least distance of two names, as a share of the axis


def strip(axes: Axes, bag: Concentrations) -> None:
    """Draw the largest CMI of the bag's teachers to the right of an axis of CMI."""
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.05 * bag.values[-1]))
    beside = axes.get_yaxis_transform()
    look: dict[str, Any] = {"marker": "_", "linestyle": "none", "markersize": 11, "markeredgewidth": 1}
    axes.plot([1.04] * len(bag.values), bag.values, color=PALETTE["purple"], transform=beside, **look)
    written: dict[str, Any] = {"transform": beside, "color": PALETTE["muted"], "fontsize": 10}
    for methods in groups(bag, APART * axes.get_ylim()[1]):
        text = f"{len(methods)} methods" if len(methods) > 1 else svg.plain(methods[0].name, 15)
        axes.text(1.08, _mean(methods), text, va="center", **written)
    title = {**written, "color": PALETTE["ink"], "transform": axes.transAxes}
    axes.text(1.02, 1.04, f"reference bag,\n{len(bag.values)} teachers", va="bottom", **title)


def groups(bag: Concentrations, apart: float) -> list[list[Method]]:
    """Merge methods with close means into groups, until all groups are at least `apart` from each other."""
    found: list[list[Method]] = [[method] for method in bag.methods]
    while len(found) > 1:
        means = [_mean(methods) for methods in found]
        gap, at = min((b - a, i) for i, (a, b) in enumerate(pairwise(means)))
        if gap >= apart:
            break
        found[at : at + 2] = [found[at] + found[at + 1]]
    return found


def _mean(methods: list[Method]) -> float:
    values = [value for method in methods for value in method.cmi]
    return sum(values) / len(values)


def said(bag: Concentrations) -> str:
    """Describe the ticks in one sentence."""
    low = min(bag.methods, key=lambda method: method.cmi[0])
    high = max(bag.methods, key=lambda method: method.cmi[-1])
    return (
        f"Reference bag {bag.bag}: largest CMI of {len(bag.values)} teachers of {len(bag.methods)} methods, from "
        f"{bag.values[0]:.3f} ({svg.plain(low.name)}) to {bag.values[-1]:.3f} nats ({svg.plain(high.name)})."
    )
