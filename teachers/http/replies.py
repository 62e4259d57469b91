"""Read answers of the Open Inference Protocol V2: exactly one row of numbers per image, or an error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from teachers.errors import RefusedInput
from teachers.http.v2 import FLOATS


def rows(reply: object, images: int, classes: int, name: str, wanted: str | None) -> NDArray[np.float64]:
    """Return the numbers of an answer, one row per image, (N, K).

    Raises RefusedInput if it holds anything else.
    """
    found = _tensor(reply, name, wanted)
    datatype, shape = found.get("datatype"), found.get("shape")
    if datatype not in FLOATS:
        raise RefusedInput(
            f"{name} answered {datatype!s:.60}; expected a number for every class ({' or '.join(FLOATS)})"
        )
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise _misshapen(name, shape, images, classes)
    inner = shape[1:] if shape[:1] == [images] else shape if images == 1 else None
    sizes = None if inner is None else [size for size in inner if size != 1]
    if sizes is None or len(sizes) > 1:
        raise _misshapen(name, shape, images, classes)
    if sizes != [classes]:
        one = "; a single score is not enough: serve one output for each class" if not sizes else ""
        raise RefusedInput(f"{name} answered {math.prod(sizes)!s:.60} classes; the data has {classes}{one}")
    return _values(found.get("data"), shape, name).reshape(images, classes)


def _tensor(reply: object, name: str, wanted: str | None) -> dict[str, object]:
    outputs = reply.get("outputs") if isinstance(reply, dict) else None
    given = [o for o in outputs if isinstance(o, dict)] if isinstance(outputs, list) else []
    fitting = [o for o in given if wanted in (None, o.get("name"))]
    if len(fitting) != 1:
        there = ", ".join(f"{o.get('name')!s:.60}" for o in given[:4]) or "none"
        raise RefusedInput(f"{name} answered with the outputs {there}; expected {wanted or 'a single one'}")
    return fitting[0]


def _misshapen(name: str, shape: object, images: int, classes: int) -> RefusedInput:
    turned = " (it is transposed)" if shape == [classes, images] else ""
    return RefusedInput(
        f"{name} answered the shape {_short(shape)} to {images} images; expected {[images, classes]}{turned}"
    )


def _short(shape: object) -> str:
    """Return a short text for a shape from a reply, which may hold anything, even numbers of a thousand digits."""
    if isinstance(shape, list):
        return f"[{', '.join(_short(size) for size in shape[:8])}]"
    return repr(shape)[:20] if isinstance(shape, float) else str(shape)[:60] if not _huge(shape) else "a huge number"


def _huge(size: object) -> bool:
    return isinstance(size, int) and abs(size) >= 10**18


def _values(data: object, shape: Sequence[int], name: str) -> NDArray[np.float64]:
    """Return numbers from a flat list, or from nested lists of the shape; null means NaN, as some servers write it."""
    flat = _flat(data, shape)
    if flat is None or not all(type(v) in (int, float) or v is None for v in flat):
        raise RefusedInput(f"{name} answered data that are not numbers")
    if len(flat) != math.prod(shape):
        raise RefusedInput(f"{name} answered {len(flat)} numbers; expected {math.prod(shape)}, {list(shape)}")
    try:
        return np.array(flat, np.float64)
    except OverflowError:
        raise RefusedInput(f"{name} answered data that are not numbers") from None


def _flat(data: object, shape: Sequence[int]) -> list[object] | None:
    if not isinstance(data, list):
        return None
    if not any(isinstance(part, list) for part in data):
        return data
    level: list[object] = [data]
    for size in shape:
        parts = [part for part in level if isinstance(part, list) and len(part) == size]
        if len(parts) < len(level):
            return None
        level = list(chain.from_iterable(parts))
    return level
