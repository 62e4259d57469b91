"""Turn matplotlib figures into small SVG strings for a page; they use the page's colours."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Final
from xml.etree import ElementTree as ET

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from reports.printable import clean
from teachers.units import signed

WIDTH: Final = 7.2  # width of every figure, in inches of 72 units

# Okabe and Ito's hues, darkened to a contrast of 4.5:1 on white; the page redefines each name for the dark theme.
PALETTE: Final = {
    "ink": "#1c2126",
    "muted": "#5b6570",
    "rule": "#d5dae0",
    "blue": "#0067a3",
    "orange": "#b84a00",
    "green": "#00745a",
    "purple": "#9a4a7e",
    "band": "#e2ecf5",
    "paper": "#ffffff",
}

_STYLE: Final = {
    "svg.hashsalt": "distill-audit",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.edgecolor": PALETTE["muted"],
    "axes.labelcolor": PALETTE["ink"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": PALETTE["rule"],
    "grid.linewidth": 0.6,
    "text.color": PALETTE["ink"],
    "xtick.color": PALETTE["muted"],
    "ytick.color": PALETTE["muted"],
    "xtick.labelcolor": PALETTE["ink"],
    "ytick.labelcolor": PALETTE["ink"],
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw with this module's style only, whatever the user's matplotlib settings are."""
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # Text stays text in the SVG: the browser has glyphs that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support .* natively")
        yield


def plain(name: str, length: int = 18) -> str:
    """Return a name without control characters, cut to `length` characters."""
    kept = clean(name)
    return kept if len(kept) <= length else kept[: length - 1] + "…"


def margin_axis(axes: Axes, left: float, delta: float) -> None:
    """Set an axis of margins in points: a line at zero, and a band up to the tolerance, a fraction."""
    axes.set(yticks=[], xlabel="margin over the control, points")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: signed(f"{x:+g}")))
    axes.axvspan(left, 100 * delta, color=PALETTE["band"], linewidth=0)
    axes.axvline(0, color=PALETTE["ink"], linewidth=1)
    axes.axvline(100 * delta, color=PALETTE["muted"], linewidth=0.8, linestyle=(0, (3, 2)))


def log_axis(axis: Axis) -> None:
    """Set a logarithmic axis's ticks to 1, 2, 5, 10…, or to powers of ten over many decades; call it after drawing."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))


def _short(x: float) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if x >= max(size, 1e4):
            return f"{x / size:g}{name}"
    return f"{x:,g}"


def text(figure: Figure, prefix: str, label: str) -> str:
    """Return the figure as SVG with a text alternative; ids start with the prefix, nothing is clipped."""
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(buffer.getvalue())
    _strip_namespaces(root)
    _drop(root, {"metadata", "title", "style", "clipPath"})
    _rename(root, prefix)
    _flatten(root)
    for element in root.iter():
        _tidy(element)
    _gather(root)
    kept = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": root.attrib["viewBox"]}
    root.attrib.clear()
    root.attrib |= {**kept, "role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode")


def _strip_namespaces(root: ET.Element) -> None:
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in [key for key in element.attrib if "}" in key]:
            element.attrib[key.rpartition("}")[2]] = element.attrib.pop(key)


def _drop(root: ET.Element, tags: set[str]) -> None:
    for parent in root.iter():
        for child in [child for child in parent if child.tag in tags]:
            parent.remove(child)


def _rename(root: ET.Element, prefix: str) -> None:
    """Number the ids that are referred to, and remove the others, and those of clips."""
    targets = [e.attrib["href"][1:] for e in root.iter() if "href" in e.attrib]
    names = {name: f"{prefix}-{i}" for i, name in enumerate(dict.fromkeys(targets))}
    for element in root.iter():
        element.attrib.pop("clip-path", None)
        name = element.attrib.pop("id", None)
        if name in names:
            element.attrib["id"] = names[name]
        if "href" in element.attrib:
            element.attrib["href"] = "#" + names[element.attrib["href"][1:]]


def _flatten(parent: ET.Element) -> None:
    """Replace groups without attributes by their children."""
    children = []
    for child in parent:
        _flatten(child)
        children += list(child) if child.tag in {"g", "defs"} and not child.attrib and _is_group(child) else [child]
    parent[:] = children


def _is_group(element: ET.Element) -> bool:
    return element.tag == "g" or len(element) == 0


def _tidy(element: ET.Element) -> None:
    """Shorten numbers, use the page's font, and replace colours by their names."""
    if element.tag != "text":
        element.text = None
    element.tail = None
    for key in {"d", "x", "y", "transform", "width", "height"} & element.attrib.keys():
        element.attrib[key] = re.sub(
            r"-?\d+\.\d+", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), element.attrib[key]
        )
    if element.attrib.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if "d" in element.attrib:
        element.attrib["d"] = " ".join(element.attrib["d"].split())
    if "style" in element.attrib:
        style = re.sub(r"font-family: [^;]*; ", "", element.attrib["style"])
        for name, colour in PALETTE.items():
            style = style.replace(colour, f"var(--{name}, {colour})")
        element.attrib["style"] = style


def _gather(parent: ET.Element) -> None:
    """Group successive marks of one style, so that the style is written once: it is half the size of a scatter plot."""
    for child in parent:
        _gather(child)
    children: list[ET.Element] = []
    for key, run in groupby(parent, lambda child: child.attrib.get("style", "") if child.tag == "use" else None):
        marks = list(run)
        if not key or len(marks) == 1 or re.search(r"(^| )opacity", key):  # opacity of a group looks different
            children += marks
            continue
        group = ET.Element("g", {"style": key})
        for mark in marks:
            del mark.attrib["style"]
            group.append(mark)
        children.append(group)
    parent[:] = children
