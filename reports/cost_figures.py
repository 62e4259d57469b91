"""Draw the cost of a copy: accuracy and agreement of knockoff students against queries, and the price of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import svg
from reports.record import Cost, Record
from reports.svg import PALETTE
from reports.wording import curve

MOST: Final = 8  # at most, curves that a reader can tell apart
APART: Final = 0.085  # least distance of two names, as a share of the axis
Band = list[tuple[float, float, float]]  # low, mean and high, point by point
_COLOURS: Final = ("blue", "orange", "green", "purple")
_MARKERS: Final = ("o", "s", "^", "D", "v", "X", "P", "<")


class Steal(NamedTuple):
    """An attack's students at increasing budgets."""

    name: str
    points: tuple[Cost, ...]


def drawn(record: Record) -> list[Steal]:
    """Return the attacks that have a curve, at most `MOST`, those with the most accurate last student first."""
    asked = (Steal(record.name_of(c), tuple(p for p in curve(c) if p.queries)) for c in record.comparisons)
    return sorted((s for s in asked if s.points), key=lambda s: -s.points[-1].accuracy.mean)[:MOST]


def costs(record: Record) -> str | None:
    """Draw accuracy and agreement of knockoff students against queries; None if no attack has such a curve."""
    found = drawn(record)
    if not found:
        return None
    price = record.settings.price
    with svg.styled():
        figure = Figure(figsize=(svg.WIDTH, 5.6 if price else 5.2))
        top = 0.87 if price else 0.97
        upper = figure.add_axes((0.11, 0.5, 0.6, top - 0.5))
        lower = figure.add_axes((0.11, 0.09, 0.6, 0.36))
        accuracy = [(s, [(c.accuracy.low, c.accuracy.mean, c.accuracy.high) for c in s.points]) for s in found]
        agreement = [(s, [(c.agreement, c.agreement, c.agreement) for c in s.points]) for s in found]
        _panel(upper, accuracy, _references(record))
        _panel(lower, agreement, {})
        upper.set_ylabel("accuracy, %")
        upper.tick_params(labelbottom=False)
        lower.set(ylabel="agreement, %", xlabel="queries", xlim=upper.get_xlim())
        if price:
            _priced(upper, price)
        return svg.text(figure, "costs", _label(found))


def _references(record: Record) -> dict[str, float]:
    """Return the accuracy of the LS student, which these attacks are compared with, for every architecture by name."""
    known = {c.student: c.control.accuracy for c in record.comparisons if curve(c) and c.control.accuracy is not None}
    names = {student: f"LS, {student}" if len(known) > 1 else "LS student" for student in known}
    return {names[student]: accuracy for student, accuracy in known.items()}


def _panel(axes: Axes, curves: Sequence[tuple[Steal, Band]], flat: dict[str, float]) -> None:
    """Draw curves of one share against queries, horizontal lines for students without queries, and their names."""
    names: list[tuple[float, str, dict[str, Any]]] = []
    for name, value in flat.items():
        line: dict[str, Any] = {"color": PALETTE["ink"], "linestyle": (0, (4, 2)), "linewidth": 1}
        axes.axhline(100 * value, **line)
        names.append((100 * value, name, line))
    for i, (steal, shares) in enumerate(curves):
        queries = [point.queries for point in steal.points]
        low, mean, high = 100 * np.array(shares).T
        colour = PALETTE[_COLOURS[i % len(_COLOURS)]]
        line = {"color": colour, "marker": _MARKERS[i], "linestyle": "-" if i < len(_COLOURS) else "--"}
        line |= {"markerfacecolor": colour if i < len(_COLOURS) else PALETTE["paper"]}
        axes.vlines(queries, low, high, color=colour, linewidth=1.2)
        axes.plot(queries, mean, **line)
        names.append((float(mean[-1]), steal.name, line))
    axes.set_xscale("log")
    svg.log_axis(axes.xaxis)
    axes.set_ylim(bottom=0)
    beside = axes.get_yaxis_transform()
    places = apart([value for value, *_ in names], APART * axes.get_ylim()[1])
    for place, (_, name, line) in zip(places, names, strict=True):
        axes.plot([1.03, 1.09], [place, place], transform=beside, **line)
        axes.text(1.11, place, svg.plain(name), transform=beside, va="center", fontsize=10)


def apart(values: Sequence[float], least: float) -> list[float]:
    """Return positions as near to the values as possible, in the same order and at least `least` apart."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    stacks: list[list[int]] = []  # neighbours that touch; each stack is centred on the mean of its values
    for i in order:
        stacks.append([i])
        while len(stacks) > 1 and _ends(stacks[-2], values, least)[1] + least > _ends(stacks[-1], values, least)[0]:
            stacks[-2:] = [stacks[-2] + stacks[-1]]
    places = [0.0] * len(values)
    for stack in stacks:
        bottom, _ = _ends(stack, values, least)
        for step, i in enumerate(stack):
            places[i] = bottom + step * least
    return places


def _ends(stack: Sequence[int], values: Sequence[float], least: float) -> tuple[float, float]:
    middle, half = sum(values[i] for i in stack) / len(stack), (len(stack) - 1) * least / 2
    return middle - half, middle + half


def _priced(axes: Axes, price: float) -> None:
    """Add an upper axis with the price of the queries."""
    each = price / 1000
    ways = (lambda queries: np.asarray(queries) * each, lambda paid: np.asarray(paid) / each)
    above = axes.secondary_xaxis("top", functions=ways)
    above.set_xlim(*(each * end for end in axes.get_xlim()))
    svg.log_axis(above.xaxis)
    above.set_xlabel(f"price, at {price:,g} per 1,000 queries")


def _label(found: Sequence[Steal]) -> str:
    ends = ", ".join(
        f"{svg.plain(name)} {100 * points[-1].accuracy.mean:.1f} % and {100 * points[-1].agreement:.1f} % "
        f"with {points[-1].queries:,} queries"
        for name, points in found
    )
    return f"Accuracy of the knockoff student, and its agreement with the teacher, against queries. At the end: {ends}."
