"""Draw the clusters that a teacher's answers form: three classes in a triangle, and all classes on two axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from reports import svg
from reports.clusters import Clusters, Map, Projection, Triangle
from reports.svg import PALETTE

CORNERS: Final = ((0.0, 0.0), (1.0, 0.0), (0.5, 3**0.5 / 2))
NAMED: Final = 30  # with more classes than this, only the highlighted ones get a name
_LOOKS: Final = (("blue", "o"), ("orange", "s"), ("green", "^"))


def triangle(found: Clusters, classes: Sequence[str]) -> str | None:
    """Draw the answers to images of three classes, one triangle for each set of images; None without a triangle."""
    if found.triangle is None:
        return None
    names = [svg.plain(classes[c]) for c in found.triangle.classes]
    with svg.styled():
        figure = Figure(figsize=(svg.WIDTH, 3.6))
        for place, points in enumerate(found.triangle.maps):
            axes = figure.add_axes((0.03 + 0.5 * place, 0.08, 0.44, 0.82))
            axes.set(xlim=(-0.08, 1.08), ylim=(-0.12, 1.02), aspect="equal", title=points.name)
            axes.set_axis_off()
            axes.plot(*zip(*CORNERS, CORNERS[0], strict=True), color=PALETTE["muted"], linewidth=0.8)
            for corner, name, (colour, _), lift in zip(CORNERS, names, _LOOKS, (-0.03, -0.03, 0.03), strict=True):
                beside: dict[str, Any] = {"ha": "center", "va": "top" if lift < 0 else "bottom", "fontsize": 10}
                axes.text(corner[0], corner[1] + lift, name, color=PALETTE[colour], **beside)
            _scatter(axes, points, found.triangle.classes)
        return svg.text(figure, "triangle", _triangle_label(found.triangle, names))


def _scatter(axes: Axes, points: Map, classes: Sequence[int]) -> None:
    label = np.array(points.classes)
    for c, (colour, marker) in zip(classes, _LOOKS, strict=False):
        _marks(axes, np.array([points.x, points.y])[:, label == c], marker, 3.2, to_rgba(PALETTE[colour], 0.55))


def _marks(axes: Axes, places: np.ndarray, marker: str, size: float, colour: tuple[float, ...]) -> None:
    """Draw marks (2, n) as vectors, not as pixels.

    Pixels that are fine enough for print take more space (1,000 marks: 64 kB instead of 46 kB), have one colour for
    both themes, and give other bytes with another version of zlib, so that `audit verify` could not compare the page.
    """
    look: dict[str, Any] = {"marker": marker, "markersize": size, "markeredgewidth": 0, "markerfacecolor": colour}
    axes.plot(*places, linestyle="none", **look)


class Corner(NamedTuple):
    """The position of one class's images in a triangle."""

    images: str
    label: int
    number: int
    shares: tuple[float, float, float]  # means of the three probabilities


def corners(drawn: Triangle) -> list[Corner]:
    """Return what a triangle shows as rows, one for each set of images and class."""
    rows = []
    for points in drawn.maps:
        third = np.array(points.y) / CORNERS[2][1]
        second = np.array(points.x) - third / 2
        shares = np.clip([1 - second - third, second, third], 0, 1)
        for label in drawn.classes:
            of_class = np.equal(points.classes, label)
            if of_class.any():
                a, b, c = shares[:, of_class].mean(1).tolist()
                rows.append(Corner(points.name, label, int(of_class.sum()), (a, b, c)))
    return rows


def _triangle_label(drawn: Triangle, names: Sequence[str]) -> str:
    counts = ", ".join(f"{len(points.x)} {points.name} images" for points in drawn.maps)
    return f"Answers to images of {', '.join(names[:2])} and {names[2]} in a triangle: {counts}."


def projection(found: Clusters, classes: Sequence[str]) -> str | None:
    """Draw the answers to held-out images on two axes, and each class's mean answer; None without a projection."""
    drawn = found.projection
    if drawn is None:
        return None
    marked = () if found.triangle is None else found.triangle.classes
    with svg.styled():
        figure = Figure(figsize=(svg.WIDTH, 5.0))
        axes = figure.add_axes((0.11, 0.11, 0.86, 0.86))
        axes.set(xlabel=_axis(drawn, 0), ylabel=_axis(drawn, 1), aspect="equal")
        axes.set_aspect("equal", adjustable="datalim")
        other = ~np.isin(drawn.points.classes, marked)
        places = np.array([drawn.points.x, drawn.points.y])[:, other]
        _marks(axes, places, "o", 2.6, to_rgba(PALETTE["muted"], 0.4))
        _scatter(axes, drawn.points, marked)
        few = len(drawn.means.classes) <= NAMED
        for x, y, c in zip(drawn.means.x, drawn.means.y, drawn.means.classes, strict=True):
            if few or c in marked:
                colour = _LOOKS[marked.index(c)][0] if c in marked else "ink"
                beside: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10, "fontweight": "bold"}
                axes.text(x, y, svg.plain(classes[c]), color=PALETTE[colour], **beside)
        share = sum(drawn.explained)
        label = (
            f"Answers to {len(drawn.points.x)} validation images on two axes that hold {share:.0%} of their variance."
        )
        return svg.text(figure, "projection", label)


def _axis(drawn: Projection, number: int) -> str:
    return f"component {number + 1} of √P, {drawn.explained[number]:.0%} of the variance"
