"""What an answer holds at most, told by its surface's name alone: without torch."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["label", "probs", "gradients"]  # each holds all that those before it do

EIGHT = "uint8"  # first, if at all: it is done to what goes in


def shown(surface: str) -> str:
    """Return what a surface does to answers."""
    return "probs" if surface == EIGHT else surface.removeprefix(f"{EIGHT}+")


def kind(surface: str) -> Kind:
    """Return what an answer holds at most."""
    found = shown(surface)
    return "label" if found == "label" else "gradients" if found == "gradients" else "probs"


def offers(surface: str, need: Kind) -> bool:
    """Whether an attack that needs `need` can be run on a surface."""
    order = get_args(Kind)
    return order.index(need) <= order.index(kind(surface))
