"""The plan: a cell is one student to train, named by the hash of all that determines it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from reports.record import CellPlan, PackedArray, Parameters, Regime, Trial


class FrozenData(BaseModel):
    """Plain frozen data that travels between processes and into the cache."""

    model_config = ConfigDict(frozen=True, extra="forbid")


ENGINE = 2  # of what all students are trained with (fit, views, networks, losses): a new number makes all stale


class Cell(FrozenData):
    """One student to train, and on which splits to measure it."""

    engine: int = ENGINE
    technique: str
    version: str  # of the technique; for plug-ins with distribution and source digest
    parameters: Parameters
    recipe: dict[str, Any]
    seed: int
    pool: str  # digest of what the attacker holds
    task: str  # digest of what the auditor holds
    surrogate: str | None = None
    teacher: str | None = None  # fingerprint; None for controls
    surface: str | None = None
    budget: int | None = None
    splits: Literal["validation", "both"] = "both"
    device: str = "cpu"

    @property
    def key(self) -> str:
        """64 hex digits."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


SMOOTHED = " of smoothed labels"  # ends the name of a control that has an attack's own loss


def cell_of(trial: Trial) -> Cell:
    """Return the cell that a trial of a record says it is.

    Raises ValueError where the record is too old to say it.
    """
    plan = trial.planned
    if plan is None:
        raise ValueError("the record does not say how its students were trained")
    return Cell(
        technique=trial.name,
        parameters=trial.parameters,
        seed=trial.seed,
        teacher=plan.fingerprint,
        budget=trial.budget,
        **plan.model_dump(exclude={"fingerprint"}),
    )


def planned(cell: Cell) -> CellPlan:
    """Return what a record keeps of a cell beside the trial."""
    same = CellPlan.model_fields.keys() & Cell.model_fields.keys()
    return CellPlan(fingerprint=cell.teacher, **cell.model_dump(include=set(same)))


class BlockUse(FrozenData):
    """The answers of one stored block that a cell rests on."""

    block: str
    images: int  # in the block
    rows: PackedArray | None = None  # (images,) bool; None: all of them
    estimate: bool = False  # whether they served to estimate gradients alone


class Result(FrozenData):
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


class Failure(FrozenData):
    """A cell that could not be trained: one sentence, and the traceback where it was a bug."""

    cell: Cell
    sentence: str
    trace: str = ""
    code: int = 70


Role = Literal["tune", "judge", "null", "bite", "cost"]


@dataclass(frozen=True)
class Use:
    """What an audit wants a cell for."""

    cell: Cell
    role: Role
    teacher: Literal["audited", "ordinary"] | None
    kind: Literal["attack", "control"]
