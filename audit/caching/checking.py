"""Whether an entry of the cache is what its name says, as far as that can be told without training it again."""

from __future__ import annotations

import base64
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from pydantic import ValidationError

from audit.caching.entries import Kind
from audit.execution.cells import Result
from reports.record import Packed
from teachers import intake, networks
from teachers.errors import RefusedInput, UsageError
from teachers.intake import Card, Teacher
from teachers.intake.card import GUARD
from teachers.numbers import Output

MOST_IMAGES = 10**8  # in one entry: more are a mistake, or meant to fill the memory
MOST_PIXELS = 10**7  # of one image of a teacher
MOST_LOOKS = 1_000
_ARRAYS = {"there.npy", "values.npy", "gradients.npy"}


class Broken(ValueError):
    """An entry that is not what its name says; the message completes "it …"."""


def check(kind: Kind, path: Path) -> None:
    """Check one entry that another machine may need.

    Raises Broken.
    """
    if kind == "students":
        student(path)
    elif kind == "teachers":
        teacher(path)
    elif kind == "answers":
        answers(path)
    elif kind == "looks":
        looks(path)


def student(path: Path) -> Result:
    """Read a student as the store does, and hold its name and the size of its answers against its cell.

    Raises Broken.
    """
    try:
        result = Result.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError) as e:
        raise Broken("is no student's result") from e
    if result.cell.key != path.stem:
        raise Broken(f"holds the student {result.cell.key[:12]}…, not the one it is named after")
    if (result.test is not None) != (result.cell.splits == "both"):
        raise Broken("answers other splits than its cell names")
    for packed in (result.validation, result.test):
        if packed is not None and (packed.dtype != "uint16" or len(packed.shape) != 1):
            raise Broken("holds answers that are no classes")
    for each in (result.validation, result.test, *(asked.rows for asked in result.asked)):
        if each is not None and not _unpacks(each):
            raise Broken("holds an array of another size than it says")
    return result


def _unpacks(packed: Packed) -> bool:
    """Whether an array has the size that it says, without unpacking more than that."""
    if any(side < 0 for side in packed.shape) or (count := math.prod(packed.shape)) > MOST_IMAGES:
        return False
    expected = -(-count // 8) if packed.dtype == "bool" else 2 * count
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(base64.b64decode(packed.data, validate=True), expected + 1)
    except (ValueError, zlib.error):
        return False
    return len(raw) == expected and stream.eof


def teacher(path: Path) -> Teacher:
    """Open a taught teacher as an audit does.

    Raises Broken.
    """
    try:
        weights = intake.open_weights(path)
        card = weights.card
        if weights.kind != "safetensors" or card is None:
            raise Broken("is no teacher that was taught here")
        own = {name: t.shape for name, t in weights.tensors.items() if not name.startswith(GUARD)}
        if min(card.shape) < 1 or math.prod(card.shape) > MOST_PIXELS or own != _shapes(card):
            raise Broken("does not fit the network that it says it is")
        return intake.assemble(weights, card.architecture, len(card.classes), card.shape, card.normalize)
    except (RefusedInput, UsageError) as e:
        raise Broken("is no checkpoint that can be opened") from e


def _shapes(card: Card) -> dict[str, torch.Size] | None:
    """Return what a teacher's tensors must be, without taking memory: a name may ask for any number of parameters."""
    try:
        with torch.device("meta"):
            network = networks.build(card.architecture, len(card.classes), card.shape)
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError, OverflowError):
        return None
    return {name: t.shape for name, t in network.state_dict().items()}


def answers(path: Path) -> None:
    """Check a block of answers.

    Raises Broken.
    """
    if path.name == "output":
        if path.stat().st_size > 100 or path.read_bytes().decode("utf-8", "replace") not in get_args(Output):
            raise Broken("names no kind of output that an API has")
        return
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
        stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
        if not stored or not {part.filename for part in parts} <= _ARRAYS or len(parts) > len(_ARRAYS):
            raise Broken("is no block of answers")  # the store compresses nothing: no small file unpacks to a large one
        with path.open("rb") as f, np.load(f, allow_pickle=False) as held:
            there, values = held["there"], held["values"]
            gradients = held.get("gradients")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
        raise e if isinstance(e, Broken) else Broken("is no block of answers") from e
    kinds = (values.ndim, str(values.dtype))
    whole = there.dtype == bool and there.ndim == 1 and len(values) == len(there)
    if not whole or kinds not in ((1, "int64"), (2, "float32")):
        raise Broken("holds answers of another shape than an API gives")
    if gradients is not None and (gradients.dtype != np.float32 or gradients.ndim != 4 or len(gradients) != len(there)):
        raise Broken("holds gradients of another shape than an API gives")


def looks(path: Path) -> tuple[int, ...]:
    """Read at which numbers of seeds a question was looked at.

    Raises Broken.
    """
    try:
        seeds = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as e:
        raise Broken("is no list of looks") from e
    if not isinstance(seeds, list) or len(seeds) > MOST_LOOKS or not all(type(s) is int and s > 0 for s in seeds):
        raise Broken("is no list of looks")
    return tuple(seeds)
