"""What the driver and a slot say to each other: text (JSON) and arrays of numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from audit.execution.cluster.parcels import Parcel
from audit.plan.cells import Cell
from reports.base import Data
from teachers.processes.pipes import Arrays


class Letter(NamedTuple):
    """What travels between the driver and a slot: what it is, a text (JSON) and arrays of numbers."""

    say: str
    text: str = "{}"
    arrays: Arrays = MappingProxyType({})

    @property
    def header(self) -> dict[str, Any]:
        """The text, parsed."""
        found: dict[str, Any] = json.loads(self.text)
        return found


class Order(Data):
    """A student that a slot trains; its images come as parcels."""

    cell: Cell
    classes: int
    owner: str
    asks: bool  # whether it queries a teacher


@dataclass(frozen=True)
class Luggage:
    """The images of an order, and a reference to a copy of its teacher where a slot may ask its own."""

    pool: Parcel
    surrogate: Parcel | None
    splits: dict[str, Parcel]  # for measuring: no worker gets them
    copy: tuple[Any, ...] = ()  # in a tuple, so that Ray does not fetch it unasked


class Question(Data):
    """What a slot asks the driver: answers for some rows of a block, which travel beside it."""

    block: str
    size: int
