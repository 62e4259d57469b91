"""The question of an audit, all that its students and its verdict depend on, and its digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reports.settings import ALPHA, TOLERANCE, Settings
from teachers.precision import FLOAT32


class Digests(NamedTuple):
    """The digests of what an audit's settings name."""

    teacher: str  # fingerprint
    task: str
    pool: str  # the attacker's images and labels
    surrogate: str
    suite: str
    groups: str = ""  # of test images; empty: there are none


def question(
    settings: Settings, digests: Digests, attacks: Mapping[str, Sequence[Any]], presets: Mapping[str, Any], version: int
) -> str:
    """Return the digest of a question: of all but the seeds, 64 hex digits.

    `settings`: with what was chosen for those left open. `attacks`: version and origin of each. `presets`: the
    parameters of attacks that were not tuned. `version`: of the protocol.
    """
    parts = {
        **{name: digest for name, digest in digests._asdict().items() if digest or name != "groups"},
        "protocol": version,
        "surface": settings.surface,
        "attacks": attacks,
        "students": settings.students,
        "budget": settings.budget,
        "dropped": settings.drop_classes,
        "presets": presets,
        "device": settings.device,
        **({} if settings.precision in (None, FLOAT32) else {"precision": settings.precision}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def of_groups(groups: NDArray[np.integer[Any]] | None) -> str:
    """Return the digest of the groups of test images, (N,); empty where there are none."""
    return "" if groups is None else hashlib.sha256(groups.astype("<u4").tobytes()).hexdigest()


def of_audit(question: str, schedule: Sequence[int], delta: float = TOLERANCE, alpha: float = ALPHA) -> str:
    """Return the digest of an audit: the question, the numbers of seeds that it may look at, tolerance and error rate.

    These two are no part of the question: whatever they are, each look at the same students spends error.
    """
    stated = [] if delta == TOLERANCE else [{"delta": delta}]
    stated += [] if alpha == ALPHA else [{"alpha": alpha}]
    return hashlib.sha256(json.dumps([question, *schedule, *stated]).encode()).hexdigest()
