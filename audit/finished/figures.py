"""Whether a page shows the figures that are drawn of its record: byte by byte, or drawn by another matplotlib."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Final
from xml.etree import ElementTree as ET

FIGURE: Final = re.compile(r"<svg.*?</svg>", re.DOTALL)
NUMBER: Final = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
PLACES: Final = frozenset(
    {"d", "x", "y", "width", "height", "transform", "viewBox", "points"}
)  # another one rounds them
NEAR: Final = 1.0  # of a figure's units, 518 to its width, by which a place may differ


def same_page(stored: bytes, drawn: bytes) -> bool:
    """Whether a page is the one that we write, but for figures that another matplotlib drew of the same."""
    try:
        one, other = stored.decode(), drawn.decode()
    except UnicodeDecodeError:
        return False
    if FIGURE.sub("<svg/>", one) != FIGURE.sub("<svg/>", other):
        return False
    return all(map(same_figure, FIGURE.findall(one), FIGURE.findall(other)))  # as many: the rest is equal


def same_figure(stored: str, drawn: str) -> bool:
    """Whether two figures hold the same elements, texts and styles, at the same places but for rounding."""
    try:
        pairs = zip_longest(ET.fromstring(stored).iter(), ET.fromstring(drawn).iter())
    except ET.ParseError:
        return False
    return all(a is not None and b is not None and _same_element(a, b) for a, b in pairs)


def _same_element(one: ET.Element, other: ET.Element) -> bool:
    alike = (one.tag, len(one), one.text, one.tail) == (other.tag, len(other), other.text, other.tail)
    if not alike or one.attrib.keys() != other.attrib.keys():
        return False
    return all(_same_value(name, value, other.attrib[name]) for name, value in one.attrib.items())


def _same_value(name: str, one: str, other: str) -> bool:
    if name == "style":
        return _look(one) == _look(other)
    if name not in PLACES:
        return one == other
    if NUMBER.sub("#", one).split() != NUMBER.sub("#", other).split():
        return False
    numbers = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    return all(abs(float(a) - float(b)) <= NEAR for a, b in numbers)


def _look(style: str) -> dict[str, str]:
    """Return what a style says but for the font, which versions spell differently and the page sets."""
    parts = (part.partition(":") for part in style.split(";"))
    return {key.strip(): value.strip() for key, _, value in parts if key.strip() and not key.strip().startswith("font")}
