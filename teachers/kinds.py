"""What a surface's name says: its steps, and the most that its answers hold; no torch."""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple, get_args

from teachers.errors import UsageError

Kind = Literal["label", "probs", "gradients"]  # each holds all information of those before it

EIGHT = "uint8"  # only as the first part: it changes the images, not the answers
WHOLE: Final = ("probs", "logits", "label", "gradients")  # which are a surface alone


class Values(NamedTuple):
    """The values that the parameter of a step may have."""

    low: float
    high: float
    whole: bool


WRITTEN: Final = {
    "top:K": Values(1, 10**6, True),
    "round:D": Values(1, 6, True),
    "temperature:T": Values(0.01, 1000, False),
    "noise:SD": Values(0, 100, False),
    "reverse-sigmoid:BETA": Values(0, 1, False),
    "sparse:K": Values(1, 10**6, True),
    "mad:EPS": Values(0, 2, False),
}
STEPS: Final = {written.partition(":")[0]: values for written, values in WRITTEN.items()}


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


def steps(surface: str) -> tuple[tuple[str, float], ...]:
    """Return the transformations with their values, in order; none for a surface that is whole.

    Raises UsageError for an unknown part, a value out of range, or parts that do not go together.
    """
    found = shown(surface)
    return () if found in WHOLE else tuple(map(_step, found.split("+")))


def _step(part: str) -> tuple[str, float]:
    name, _, text = part.partition(":")
    if name not in STEPS:
        alone = " (alone)" if name in WHOLE else ""
        raise UsageError(
            f"unknown surface {part!r}{alone}; there are {', '.join(WHOLE)}, and joined by + {', '.join(WRITTEN)}; "
            f"{EIGHT} may stand before any"
        )
    values = STEPS[name]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not values.low <= value <= values.high or (values.whole and value != int(value)):
        kind = f"a {'whole ' if values.whole else ''}number from {values.low:g} to {values.high:g}"
        raise UsageError(f"surface {part!r}: {name} takes {kind}, as in {name}:2")
    return name, value
