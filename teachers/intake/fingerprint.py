"""Identify an architecture by its tensors' names and shapes, whatever its number of classes and input size."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shapes = Mapping[str, tuple[int, ...]]

INDEX = "architectures.json.gz"
ANY = -1  # a length that depends on the classes, the channels or the input size
SKETCH = 48  # smallest token hashes kept per network: two sketches estimate the share of common tensors
COUNTER = "num_batches_tracked"  # of batch norms: old checkpoints lack it, and it never changes an answer
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # heads of GoogLeNet and Inception that only training uses


@dataclass(frozen=True)
class Length:
    """One length of one tensor."""

    key: str
    dim: int

    def of(self, shapes: Shapes) -> int | None:
        """Return its value in a network, None if there is no such tensor."""
        shape = shapes.get(self.key, ())
        return shape[self.dim] if self.dim < len(shape) else None


@dataclass(frozen=True)
class Grid:
    """A length that grows with the input's area, given by its values at two input sizes in pixels."""

    length: Length
    sizes: tuple[int, int]
    values: tuple[int, int]

    def size(self, shapes: Shapes) -> int | None:
        """Return a network's input size, None if no whole number gives this length."""
        value, (s, t), (u, v) = self.length.of(shapes), self.sizes, self.values
        if value is None or u == v:
            return None
        area = s * s + (value - u) * (s * s - t * t) / (u - v)
        side = round(max(area, 0) ** 0.5)
        return side if side and abs(side * side - area) < 1e-6 * area + 1e-6 else None


@dataclass(frozen=True)
class Entry:
    """A network in the index."""

    name: str  # as networks.build takes it
    keys: str  # digest of the tensor names
    shapes: str  # digest of names and shapes, without open lengths
    open: Mapping[str, tuple[int, ...]]  # the shapes that have open lengths (ANY), by tensor
    size: int  # pixels per side, by default
    fixed: bool  # whether the weights belong to one input size
    classes: Length | None
    channels: Length | None
    grid: Grid | None
    native: str  # like `shapes` at the default size: only lengths that depend on classes and channels are open
    narrow: Mapping[str, tuple[int, ...]]  # like `open`, at the default size
    sketch: NDArray[np.uint32]


def idle(name: str) -> bool:
    """Whether no answer depends on a tensor of this name, so that it may be missing or ignored."""
    return name.endswith(COUNTER) or name.startswith(AUXILIARY)


def digest(lines: Iterable[str]) -> str:
    """Return a short digest of lines; their order does not matter."""
    return hashlib.blake2b("\n".join(sorted(lines)).encode(), digest_size=8).hexdigest()


def digest_of_shapes(shapes: Shapes, opened: Shapes) -> str:
    """Return a digest of names and shapes that ignores open lengths."""
    return digest(f"{key} {masked(shape, opened.get(key))}" for key, shape in shapes.items())


def masked(shape: tuple[int, ...], opened: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return a shape with ANY wherever `opened`, if it has as many dimensions, has ANY."""
    if opened is None or len(opened) != len(shape):
        return shape
    return tuple(ANY if o == ANY else n for n, o in zip(shape, opened, strict=True))


def sketch(shapes: Shapes, opened: Shapes) -> NDArray[np.uint32]:
    """Return the SKETCH smallest hashes of a network's names with shapes, sorted; fewer if it has fewer tensors."""
    tokens = (f"{key} {shape}".encode() for key, shape in shapes.items() if key not in opened)
    hashes = {int.from_bytes(hashlib.blake2b(token, digest_size=4).digest(), "little") for token in tokens}
    return np.array(sorted(hashes)[:SKETCH], np.uint32)


def alike(mine: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Estimate the share of tensors that two networks have in common, from their sketches (Broder 1997)."""
    union = np.union1d(mine, other)[:SKETCH]
    return float(np.isin(union, np.intersect1d(mine, other)).mean()) if len(union) else 0.0


def written(entries: Iterable[Entry]) -> bytes:
    """Return an index as bytes, identical for identical entries."""
    lines = []
    for entry in entries:
        told = asdict(entry) | {"sketch": base64.b64encode(entry.sketch.tobytes()).decode()}
        lines.append(json.dumps(told, sort_keys=True))
    return gzip.compress("\n".join(lines).encode(), 9, mtime=0)


@cache
def index() -> tuple[Entry, ...]:
    """Return the index that ships with the tool."""
    packed = files("teachers.intake").joinpath(INDEX).read_bytes()
    return tuple(_read(json.loads(line)) for line in gzip.decompress(packed).decode().splitlines())


def _read(told: dict[str, Any]) -> Entry:
    def opened(part: dict[str, list[int]]) -> dict[str, tuple[int, ...]]:
        return {key: tuple(shape) for key, shape in part.items()}

    def length(part: dict[str, Any] | None) -> Length | None:
        return None if part is None else Length(part["key"], part["dim"])

    grid = told["grid"]
    measured = grid and Grid(Length(**grid["length"]), tuple(grid["sizes"]), tuple(grid["values"]))
    return Entry(
        name=told["name"],
        keys=told["keys"],
        shapes=told["shapes"],
        open=opened(told["open"]),
        size=told["size"],
        fixed=told["fixed"],
        classes=length(told["classes"]),
        channels=length(told["channels"]),
        grid=measured,
        native=told["native"],
        narrow=opened(told["narrow"]),
        sketch=np.frombuffer(base64.b64decode(told["sketch"]), np.uint32),
    )
