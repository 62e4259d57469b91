"""Derive from a surface's name the most that its answers hold; no torch."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["label", "probs", "gradients"]  # each holds all information of those before it

EIGHT = "uint8"  # only as the first part: it changes the images, not the answers


def shown(surface: str) -> str:
    """Return the part of a surface's name that concerns answers."""
    return "probs" if surface == EIGHT else surface.removeprefix(f"{EIGHT}+")


def kind(surface: str) -> Kind:
    """Return the most that an answer holds."""
    found = shown(surface)
    return "label" if found == "label" else "gradients" if found == "gradients" else "probs"


def offers(surface: str, need: Kind) -> bool:
    """Whether an attack that needs `need` can be run on a surface."""
    order = get_args(Kind)
    return order.index(need) <= order.index(kind(surface))
