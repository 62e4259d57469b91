"""Plain data between processes: JSON and arrays of numbers, never a pickle that a stranger wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from teachers.surface import Answers

Arrays = Mapping[str, np.ndarray]
KINDS = "biuf"  # of numpy: numbers alone
HEADER = 1 << 26  # bytes, at most, of a header


class PipeError(ValueError):
    """What came is no message."""


def send(pipe: Connection, header: Mapping[str, Any], arrays: Arrays | None = None) -> None:
    """Send a message."""
    parts = {name: np.asarray(a, order="C") for name, a in (arrays or {}).items()}
    shapes = [[name, a.dtype.str, a.shape] for name, a in parts.items()]
    pipe.send_bytes(json.dumps({"header": header, "arrays": shapes}).encode())
    for array in parts.values():
        if array.size:
            pipe.send_bytes(array.reshape(-1).view(np.uint8).data)


def receive(pipe: Connection) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Receive a message; its arrays are writable copies.

    Raises PipeError where it is none, EOFError where the other side is gone.
    """
    content = pipe.recv_bytes()
    if len(content) > HEADER:
        raise PipeError(f"a header of {len(content)} bytes")
    try:
        message = json.loads(content)
        header, shapes = dict(message["header"]), [(str(n), np.dtype(d), tuple(s)) for n, d, s in message["arrays"]]
    except (ValueError, TypeError, KeyError) as e:
        raise PipeError(f"no header: {e}") from e
    arrays = {}
    for name, dtype, shape in shapes:
        if dtype.kind not in KINDS:
            raise PipeError(f"an array of {dtype}")
        sizes = np.array(shape, np.int64)
        if (sizes < 0).any():
            raise PipeError(f"an array of shape {shape}")
        if not sizes.prod():
            arrays[name] = np.zeros(shape, dtype)
            continue
        raw = bytearray(pipe.recv_bytes())
        try:
            arrays[name] = np.frombuffer(raw, dtype).reshape(shape)
        except ValueError as e:
            raise PipeError(f"{name}: {e}") from e
    return header, arrays


def told(answers: Answers) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return answers as a message."""
    arrays = {"values": answers.values.numpy()}
    if answers.gradients is not None:
        arrays["gradients"] = answers.gradients.numpy()
    return {"kind": answers.kind}, arrays


def heard(header: Mapping[str, Any], arrays: Arrays) -> Answers:
    """Return the answers that a message holds."""
    gradients = torch.from_numpy(arrays["gradients"]) if "gradients" in arrays else None
    return Answers(header["kind"], torch.from_numpy(arrays["values"]), gradients)
