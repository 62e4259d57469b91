"""The plan: a cell is one student to train, named by the hash of all that determines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reports.base import Data
from reports.record import Cell as Cell
from reports.record import PackedArray, Regime
from teachers.names import HOME_MADE, SMOOTHING, TWIN

ENGINE = 2  # of what all students are trained with (fit, views, networks, losses): a new number makes all stale


SMOOTHED = " of smoothed labels"  # ends the name of a control that has an attack's own loss


def of_labels(smoothing: float) -> str:
    """Return the end of the name of a control that has an attack's own loss, by the smoothing of its labels."""
    return SMOOTHED if smoothing == SMOOTHING else f" of labels smoothed by {smoothing:g}"


OF_OWN = {TWIN: " of a twin", HOME_MADE: " of a home-made teacher"}  # ends the name of such a control, by whom it asks


class BlockUse(Data):
    """The answers of one stored block that a cell rests on."""

    block: str
    images: int  # in the block
    rows: PackedArray | None = None  # (images,) bool; None: all of them
    estimate: bool = False  # whether they served to estimate gradients alone


class Result(Data):
    """A trained student's answers, and what `fit` and the oracle saw."""

    cell: Cell
    regime: Regime
    validation: PackedArray  # (N,) uint16 top classes
    test: PackedArray | None
    charged: int
    estimated: int = 0  # of these, to estimate gradients
    asked: tuple[BlockUse, ...]
    repeats: float | None
    diverged: bool
    network_parameters: int
    seconds: float
    step_seconds: float
    decoded: str = ""  # what the attack found that the teacher does to its answers


class Failure(Data):
    """A cell that could not be trained: one sentence, and the traceback where it was a bug."""

    cell: Cell
    sentence: str
    trace: str = ""
    code: int = 70


Role = Literal["tune", "judge", "null", "positive control", "cost"]


@dataclass(frozen=True)
class Use:
    """What an audit wants a cell for."""

    cell: Cell
    role: Role
    teacher: Literal["audited", "ordinary"] | None
    kind: Literal["attack", "control"]
