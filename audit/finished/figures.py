"""Check that a page shows its record's figures: byte by byte, or as another version of matplotlib draws them."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Final
from xml.etree import ElementTree as ET

FIGURE: Final = re.compile(r"<svg.*?</svg>", re.DOTALL)
NUMBER: Final = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
PLACES: Final = frozenset(
    {"d", "x", "y", "width", "height", "transform", "viewBox", "points"}
)  # attributes that another version of matplotlib rounds differently
NEAR: Final = 1.0  # by which coordinates may differ, in units of a figure that is 518 wide


def same_page(stored: bytes, drawn: bytes) -> bool:
    """Whether a page is the expected one, up to how another version of matplotlib draws its figures."""
    try:
        one, other = stored.decode(), drawn.decode()
    except UnicodeDecodeError:
        return False
    if FIGURE.sub("<svg/>", one) != FIGURE.sub("<svg/>", other):
        return False
    return all(map(same_figure, FIGURE.findall(one), FIGURE.findall(other)))  # equally many, because the rest is equal


def same_figure(stored: str, drawn: str) -> bool:
    """Whether two figures hold the same elements, texts and styles, at the same places up to rounding."""
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
    """Return a style without its font, which versions write differently and which the page sets."""
    parts = (part.partition(":") for part in style.split(";"))
    return {key.strip(): value.strip() for key, _, value in parts if key.strip() and not key.strip().startswith("font")}
