"""The precision that students train in: the faster one, by a table that `benchmarks/precision.py` measured.

Nothing is timed here: an audit that measured its own machine would train other students whenever that is busy.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from statistics import median
from typing import Final, Literal

Precision = Literal["float32", "bfloat16"]
FLOAT32: Final = "float32"
BFLOAT16: Final = "bfloat16"
FASTER = 1.1  # times as fast that a step with bfloat16 must be, in the median round


def fastest(networks: Sequence[str], shape: tuple[int, int, int], device: str = "cpu") -> Precision:
    """Return bfloat16 if students of all these networks were measured to train faster with it, else float32.

    What was not measured on such a processor, with this version of torch and images of this shape, has float32.
    """
    import torch

    kind = None if device != "cpu" else processor()
    version = release(torch.__version__)
    rounds = [_table().get((kind, version, name, shape), (1.0,)) for name in networks]
    return BFLOAT16 if min(map(median, rounds), default=1.0) >= FASTER else FLOAT32


def processor() -> str | None:
    """Return which instructions for bfloat16 this machine's processor has: amx, avx512_bf16 or None."""
    import torch

    told = {"amx": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}
    known = (kind for kind, name in told.items() if getattr(torch.cpu, name, bool)())
    return next(known, None)


def release(version: str) -> str:
    """Return the first two numbers of a version."""
    return ".".join(version.split(".")[:2])


@cache
def _table() -> dict[tuple[str | None, str, str, tuple[int, ...]], tuple[float, ...]]:
    """Return how many times faster a step was with bfloat16 in each round, by what it was measured on."""
    rows = json.loads((files("teachers") / "precision.json").read_text())
    return {(r["processor"], r["torch"], r["network"], tuple(r["shape"])): tuple(r["ratios"]) for r in rows}
