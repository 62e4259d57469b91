"""Size limits of a worker's messages, which depend on the kind of message and on the job."""

from __future__ import annotations

from functools import cache
from typing import Any

from audit.execution.worker import Job
from teachers import networks
from teachers.networks import Shape
from teachers.processes import limits
from teachers.processes.pipes import Limits

HEADS = 16  # a student may be this many times larger than the plain network (extra heads, clones)
BASE = Limits(1_000, 2**26)
IMAGES = 2**32  # at most, bytes of the images of one query


def room(job: Job, shape: Shape, header: dict[str, Any]) -> Limits:
    """Return the size limit of the arrays that follow a header; zero for messages that have no arrays."""
    match header.get("say"):
        case "ask":
            return Limits(1, min(IMAGES, limits.spare() // 4))
        case "trained":
            plain = _plain(str(job.cell.recipe["architecture"]), job.classes, shape)
            return Limits(BASE.arrays + HEADS * plain.arrays, BASE.size + HEADS * plain.size)
    return Limits(0, 0)


@cache
def _plain(architecture: str, classes: int, shape: Shape) -> Limits:
    tensors = networks.build(architecture, classes, shape).state_dict().values()
    return Limits(len(tensors), sum(t.numel() * t.element_size() for t in tensors))
