"""Send JSON and numeric arrays between processes, within limits; never a pickle, which could run code."""

from __future__ import annotations

import json
import math
import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from teachers.processes import frames
from teachers.processes.frames import Clock
from teachers.processes.frames import PipeError as PipeError
from teachers.processes.frames import Silence as Silence

Arrays = Mapping[str, np.ndarray]
NUMBERS = {np.dtype(kind).str: np.dtype(kind) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "?")}
HEADER = 2**22  # bytes of a header, at most
DIMENSIONS, LARGEST = 8, 2**40  # of an array: dimensions and elements, at most


@dataclass(frozen=True)
class Limits:
    """The largest arrays that a message may have."""

    arrays: int = 2
    size: int = 2**32  # bytes of all arrays together


QUESTION = Limits()
Room = Callable[[dict[str, Any]], Limits]  # the limits of a message, given its header


class Spec(NamedTuple):
    """The description of an array that follows."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The array's size in bytes, exact even if huge."""
        return math.prod(self.shape) * self.dtype.itemsize


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    header: dict[str, Any]
    arrays: list[tuple[str, str, list[int]]]


def send(
    pipe: Connection,
    header: Mapping[str, Any],
    arrays: Arrays | None = None,
    seconds: float | None = None,
    file: int | None = None,
) -> None:
    """Send a message; `file`: an open file that follows it, for `accept`.

    Raises Silence if the other side does not read it within `seconds` plus the time for its size; None: no limit.
    """
    parts = {name: np.asarray(a, order="C") for name, a in (arrays or {}).items()}
    shapes = [[name, a.dtype.str, a.shape] for name, a in parts.items()]
    size = sum(a.nbytes for a in parts.values())
    clock = Clock(None if seconds is None else seconds + frames.enough(size))
    frames.put(pipe, json.dumps({"header": header, "arrays": shapes}).encode(), clock)
    for array in parts.values():
        if array.size:
            frames.put(pipe, array.reshape(-1).view(np.uint8).data, clock)
    if file is not None:
        frames.give(pipe, file, clock)


def receive(
    pipe: Connection, most: Limits | Room = QUESTION, patience: float | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Receive a message; its arrays are writable copies.

    `most` limits them, and may depend on the header.

    Waits `patience` seconds for it to begin; then the rest must arrive in time. Raises PipeError if it is no message
    within the limits, Silence if it does not arrive in time, EOFError if the other side is gone.
    """
    if not frames.ready(pipe, select.POLLIN, patience):
        raise Silence("it sent nothing at all")
    content = frames.take(pipe, HEADER, Clock(frames.GRACE))
    header, shapes = _parsed(bytes(content))
    _fit(shapes, most if isinstance(most, Limits) else most(header))
    clock = Clock(frames.enough(sum(shape.size for shape in shapes)))
    return header, {shape.name: _array(pipe, shape, clock) for shape in shapes}


def accept(pipe: Connection) -> int:
    """Receive the open file that follows a message; the receiver closes it.

    Raises Silence if it does not arrive in time, EOFError if the other side is gone.
    """
    return frames.accept(pipe, Clock(frames.GRACE))


def _parsed(content: bytes) -> tuple[dict[str, Any], list[Spec]]:
    try:
        found = _Envelope.model_validate_json(content)
    except ValidationError as e:  # also raised for invalid or too deeply nested JSON
        raise PipeError(f"no header: {said(e)}") from e
    if len({name for name, _, _ in found.arrays}) < len(found.arrays):
        raise PipeError("two arrays of one name")
    return found.header, [_spec(*array) for array in found.arrays]


def _fit(shapes: list[Spec], most: Limits) -> None:
    if len(shapes) > most.arrays:
        raise PipeError(f"{len(shapes)} arrays in place of at most {most.arrays}")
    size = sum(shape.size for shape in shapes)
    if size > most.size:
        raise PipeError(f"{size:,} bytes in place of at most {most.size:,}")


def _spec(name: str, dtype: str, shape: list[int]) -> Spec:
    if dtype not in NUMBERS:
        raise PipeError(f"an array of {dtype[:20]!r}")
    if (
        len(shape) > DIMENSIONS
        or not all(0 <= d <= LARGEST for d in shape)
        or math.prod(max(1, d) for d in shape) > LARGEST
    ):
        raise PipeError(f"an array of shape {str(shape)[:60]}")
    return Spec(name, NUMBERS[dtype], tuple(shape))


def _array(pipe: Connection, spec: Spec, clock: Clock) -> np.ndarray:
    if not spec.size:
        return np.zeros(spec.shape, spec.dtype)
    raw = frames.take(pipe, spec.size, clock)
    if len(raw) != spec.size:
        raise PipeError(f"{len(raw):,} bytes for an array of {spec.size:,}")
    return np.frombuffer(raw, spec.dtype).reshape(spec.shape)


def said(error: ValidationError) -> str:
    """Return the first error, in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part)[:40] for part in first['loc'])}: {first['msg']}"[:200]
