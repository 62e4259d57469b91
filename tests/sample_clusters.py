"""Answers with clusters, and records of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from audit.analysis import derive
from audit.diagnosis import thumbnails
from audit.statistics import sights
from reports.clusters import UNSEEN
from reports.record import CMIPool, PackedArray, Record

Log = NDArray[np.floating[Any]]


def answers(classes: int, of_each: int, seed: int, spread: float = 1.5) -> tuple[Log, NDArray[np.uint16]]:
    """Return log-probabilities that name the own class most, and labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(classes * of_each, dtype=np.uint16) % classes
    z = spread * rng.standard_normal((len(y), classes))
    z[np.arange(len(y)), y] += 4
    return np.asarray(log_softmax(z, axis=1)), y


def with_pools(record: Record, pools: dict[str, tuple[Log, NDArray[np.uint16]]]) -> Record:
    """Return a record of these answers, and of what follows from them; its images are noise."""
    held: list[CMIPool] = []
    for name, (log_p, y) in pools.items():
        held.append(CMIPool(name=name, answers=PackedArray.of(log_p.astype(np.float16)), labels=PackedArray.of(y)))  # type: ignore[arg-type]
    record = record.model_copy(update={"cmi": tuple(held), "clusters": UNSEEN})
    K = len(record.task.classes)
    curves = [derive.measured(pool, K) for pool in record.cmi]
    pairs = zip(record.cmi, curves, strict=True)
    cmi = tuple(pool.model_copy(update=derive.cmi_fields(curve)) for pool, curve in pairs)
    found = sights.seen(record, curves)
    if found is not None:
        noise = np.random.default_rng(0).integers(0, 256, (len(pools["validation"][1]), 3, 64, 64), np.uint8)
        found = thumbnails.illustrated(found, noise)
    return record.model_copy(update={"cmi": cmi, "clusters": found})
