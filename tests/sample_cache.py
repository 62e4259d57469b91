"""A cache of hand-made entries."""

from pathlib import Path

import numpy as np
import torch

from audit.caching.entries import contents
from audit.execution.cells import Cell, Result, truth_digest
from audit.execution.store import Cache
from audit.folder import remember_looks
from reports.record import Packed, Regime
from teachers.surface import Answers


def cell(seed: int, **more: object) -> Cell:
    base = Cell(
        technique="ls", version="1", parameters={}, recipe={"views": 2}, seed=seed, pool="p" * 64, task="t" * 64
    )
    return base.model_copy(update=more)


def result(of: Cell) -> Result:
    return Result(
        cell=of,
        regime=Regime(recipe={}, view="crop", source="original"),
        validation=Packed.of(np.arange(3, dtype=np.uint16)),
        test=Packed.of(np.full(5, of.seed, np.uint16)),
        charged=0,
        asked=(),
        repeats=None,
        diverged=False,
        network_parameters=1,
        seconds=1.0,
        step_seconds=1.0,
    )


def filled(root: Path) -> Cache:
    """Return a cache of two controls, a knockoff, a block of answers and a look."""
    cache = Cache(root)
    for each in (cell(0), cell(1, teacher=truth_digest("p" * 64, 2), surface="probs"), cell(2, teacher="f" * 64)):
        cache.finish(result(each))
    answers = Answers("label", torch.arange(4))
    cache.answers("f" * 64, "top:5+label").add("x-00", 6, np.arange(4), answers)
    remember_looks(cache, "a" * 64, (5, 8))
    return cache


def named(root: Path) -> set[str]:
    return {entry.name for entry in contents(root).entries}
