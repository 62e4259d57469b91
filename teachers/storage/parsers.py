"""Parse each kind of entry without trusting it: return its values, or raise DamagedEntry with what is wrong."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from teachers import intake, kinds
from teachers.data.stored import StoredImages
from teachers.errors import RefusedInput, UsageError
from teachers.networks import PreprocessedNetwork
from teachers.numbers import Output
from teachers.storage.arrays import arrays
from teachers.storage.entries import Content, DamagedEntry, doubted
from teachers.surface import Answers, Kind
from teachers.task import Augment, Images, Pool

MOST_IMAGES = 10**8  # in one entry, at most: more are an error or an attempt to fill the memory
MOST_WORDS = 2**16  # bytes of a short text, at most

TEACHER = "teacher.safetensors"
CUT = "top-"  # part of a surface's folder name if it shows the top classes only

ANSWERS: dict[str, str] = {"there": "|b1", "values": "<f4 <i8", "gradients": "<f4"}
UNFIT = "does not fit the network that it names"
POOL: dict[str, str] = {"images": "|u1", "path": "|u1", "rows": "<i8", "augment": "<i8", "labels": "<i8"}


class Block(NamedTuple):
    """The stored answers about some of N images."""

    there: NDArray[np.bool_]  # (N,) which images have an answer
    values: NDArray[Any]  # (N, K) float32 log-probabilities, or (N,) int64 labels
    gradients: NDArray[np.float32] | None  # (N, C, H, W)

    @property
    def held(self) -> dict[str, NDArray[Any]]:
        """The arrays of answers by name."""
        return {"values": self.values} | ({} if self.gradients is None else {"gradients": self.gradients})

    @property
    def answers(self) -> Answers:
        """The answers in an oracle's form."""
        kind: Kind = "label" if self.values.ndim == 1 else "probs" if self.gradients is None else "gradients"
        gradients = None if self.gradients is None else torch.from_numpy(self.gradients)
        return Answers(kind, torch.from_numpy(self.values), gradients)


def form(held: Mapping[str, NDArray[Any]]) -> dict[str, object]:
    """Return the type and shape of answers without the number of images; all answers of a block share them."""
    return {name: (array.dtype, array.shape[1:]) for name, array in held.items()}


def block(content: Content, surface: str, classes: int | None = None) -> Block:
    """Read a block of answers through a surface; check one without a seal row by row."""
    with doubted(content, "is not a block of answers"):
        held = arrays(content, ANSWERS)
        there, values, gradients = held["there"], held["values"], held.get("gradients")
    whole, shown = there.ndim == 1 and len(values) == len(there), kinds.shown(surface)
    labels = shown == "label" if shown in kinds.WHOLE else values.ndim == 1
    if not whole or (values.ndim, values.dtype.kind) != ((1, "i") if labels else (2, "f")):
        raise DamagedEntry("holds answers of another shape than an API gives")
    if gradients is not None and (labels or gradients.ndim != 4 or len(gradients) != len(there)):
        raise DamagedEntry("holds gradients of another shape than an API gives")
    if not content.sealed and gradients is not None and not np.isfinite(gradients).all():
        raise DamagedEntry("holds gradients that are not numbers")
    if classes is not None and values.ndim == 2 and values.shape[1] != classes:
        raise DamagedEntry(f"answers for {values.shape[1]} classes in place of {classes}")
    if not content.sealed and not _answered(values[there], surface, classes):
        raise DamagedEntry("holds numbers that are not valid answers")
    return Block(there, values, gradients)


def _answered(values: NDArray[Any], surface: str, classes: int | None) -> bool:
    """Whether rows are labels or log-probabilities, which a surface may have rounded or truncated."""
    if not values.size:
        return len(values) == 0
    if values.ndim == 1:
        return bool(values.min() >= 0 and values.max() < (classes or MOST_IMAGES))
    if not values.max() <= 1e-3:  # also rejects NaN
        return False
    sums = np.exp(values.astype(np.float64)).sum(1)
    # The coarsest rounding is to one decimal: an error of at most 0.05 per class.
    off = 0.01 + 0.05 * values.shape[1]
    return bool(sums.max() <= 1 + off and (CUT in surface or sums.min() >= 1 - off))


def pool(content: Content) -> Pool:
    """Read a pool that `Store.pool` wrote."""
    with doubted(content, "is not a pool of images"):
        held = arrays(content, POOL)
        pad, flip = held["augment"].tolist()
        labels = held["labels"]
        images = cast(Images, _stored(held) if "path" in held else held["images"])
        if images.ndim != 4 or labels.ndim != 1 or len(labels) not in (0, len(images)):
            raise DamagedEntry("holds no images, or other labels than images")
        return Pool(images, labels if len(labels) == len(images) else None, Augment(int(pad), bool(flip)))


def _stored(held: Mapping[str, NDArray[Any]]) -> StoredImages:
    return StoredImages(Path(held["path"].tobytes().decode()), held["rows"])


def output(content: Content) -> Output:
    """Read the output type of an API."""
    with doubted(content, "names an unknown kind of output"):
        known: dict[bytes, Output] = {word.encode(): word for word in get_args(Output)}
        return known[_bytes(content, MOST_WORDS)]


def state(content: Content) -> dict[str, Any]:
    """Read the checkpoint of an unfinished training."""
    with doubted(content, "is not the state of an unfinished training"):
        held = content.file.read()
        if not held.startswith(b"PK"):  # torch would read anything else as a pickle
            raise DamagedEntry("is not the state of an unfinished training")
        found: dict[str, Any] = torch.load(io.BytesIO(held), map_location="cpu", weights_only=True)
        if not {"step", "network", "optimisers", "objective", "chance"} <= found.keys():
            raise DamagedEntry("is not the state of an unfinished training")
        return found


@contextmanager
def checkpoint(content: Content) -> Iterator[intake.Weights]:
    """Open a trained teacher's checkpoint from a temporary copy without the seal."""
    with tempfile.TemporaryDirectory(prefix="distill-audit-") as folder:
        path = Path(folder) / TEACHER
        with path.open("wb") as f:
            shutil.copyfileobj(content.file, f)
        with _refused(content, "is not a checkpoint that can be opened"):
            weights = intake.open_weights(path)
        if weights.kind != "safetensors" or weights.card is None:
            raise DamagedEntry("is not a teacher that this tool trained")
        yield weights


def teacher(content: Content, architecture: str, classes: int, shape: tuple[int, int, int]) -> intake.Teacher:
    """Read a trained teacher."""
    with checkpoint(content) as weights, _refused(content, UNFIT):
        assert weights.card is not None
        return intake.assemble(weights, architecture, classes, shape, weights.card.normalize)


@contextmanager
def _refused(content: Content, sentence: str) -> Iterator[None]:
    """Turn a refusal into DamagedEntry with `sentence`; with a seal the file is whole, and the refusal is raised."""
    try:
        yield
    except (RefusedInput, UsageError) as e:
        if content.sealed:
            raise
        raise DamagedEntry(sentence) from e


def written(network: PreprocessedNetwork, card: intake.Card) -> bytes:
    """Return a trained teacher as the bytes of its checkpoint."""
    with tempfile.TemporaryDirectory(prefix="distill-audit-") as folder:
        intake.save_teacher(network, card, Path(folder) / TEACHER)
        return (Path(folder) / TEACHER).read_bytes()


def _bytes(content: Content, most: int) -> bytes:
    if content.size > most:
        raise ValueError(f"{content.size} bytes are above {most}")
    return content.file.read()
