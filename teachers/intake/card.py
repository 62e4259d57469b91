"""The card in a checkpoint of ours, which describes it, so that `audit run` needs no other option."""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from teachers import guards
from teachers.intake.normalise import Normalisation
from teachers.networks import NAME, PreprocessedNetwork

GUARD = "guard."  # prefix of an output defence's tensors
MOST_CLASSES = 100_000
MOST_PIXELS = 10**7  # values of one image, over all its channels
MOST_PATH, MOST_PART = 4_096, 255  # bytes of a path and of one name in it: the limits of file systems

Word = Annotated[str, Field(max_length=200)]
Side = Annotated[int, Field(strict=True, ge=1)]
Setting = float | Word | Annotated[tuple[float, ...], Field(max_length=1_000)]


class Card(BaseModel):
    """A checkpoint's description of itself; not trusted, since anyone may have written it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Word
    classes: Annotated[tuple[Annotated[str, Field(max_length=1_000)], ...], Field(max_length=MOST_CLASSES)]
    shape: tuple[Side, Side, Side]
    mean: tuple[FiniteFloat, ...]
    std: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]
    bgr: bool = False  # whether the network expects channels in the order blue, green, red
    data: str  # as given to --data
    task_digest: Word
    method: Word
    settings: Annotated[dict[Word, Setting], Field(max_length=100)] = {}
    seed: int = 0
    size: Annotated[int, Field(ge=1, le=MOST_PIXELS)] | None = None
    guard: Word = ""  # output defence in front of the network (teachers/guards.py)
    measured: Annotated[
        dict[Word, FiniteFloat], Field(max_length=100)
    ] = {}  # figures that the method measured on the finished teacher

    @field_validator("architecture")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an architecture, such as resnet18 or timm:resnet18")
        return name

    @field_validator("method")
    @classmethod
    def _is_known(cls, name: str) -> str:
        from teachers.methods import METHODS

        if name not in METHODS:
            raise ValueError(f"{name!r} is not a way to train a teacher; there are {', '.join(METHODS)}")
        return name

    @field_validator("classes")
    @classmethod
    def _are_different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) < len(names):
            raise ValueError("a teacher has one class or more, each named once")
        return names

    @field_validator("data")
    @classmethod
    def _is_a_place(cls, spec: str) -> str:
        sizes = [len(os.fsencode(part)) for part in spec.split("/")]
        if "\0" in spec or max(sizes) > MOST_PART or sum(sizes) > MOST_PATH:
            raise ValueError("no data set or folder has such a name")
        return spec

    @model_validator(mode="after")
    def _fits_its_images(self) -> Card:
        if math.prod(self.shape) > MOST_PIXELS:
            raise ValueError(f"images of shape {self.shape} are larger than {MOST_PIXELS:,} values")
        if not {len(self.mean), len(self.std)} <= {1, self.shape[0]}:
            raise ValueError(f"mean and std are not one of each, for all or each of {self.shape[0]} channels")
        if self.bgr and self.shape[0] != 3:
            raise ValueError(f"images of {self.shape[0]} channels have no blue channel that could be first")
        return self

    @property
    def normalize(self) -> str:
        """The normalisation as --normalize takes it."""
        return str(Normalisation(self.mean, self.std, self.bgr))


def save_teacher(network: PreprocessedNetwork, card: Card, path: Path) -> None:
    """Write a checkpoint with its card, as a .safetensors file or with torch.save, depending on the suffix."""
    inner = network.network
    tensors = inner.state_dict()
    if isinstance(inner, guards.GuardedNetwork):
        own, kept = inner.network.state_dict(), inner.guard.state_dict()
        tensors = {**own, **{GUARD + name: t for name, t in kept.items()}}
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    text = json.dumps(card.model_dump(mode="json"), sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(_bytes(tensors, text, path.suffix))
        partial.replace(path)
    except OSError as e:  # if the disk is full, the error names no file
        partial.unlink(missing_ok=True)
        raise OSError(e.errno, e.strerror, str(path)) from e


def _bytes(tensors: dict[str, torch.Tensor], card: str, suffix: str) -> bytes:
    if suffix == ".safetensors":
        from safetensors.torch import save

        return save(tensors, metadata={"distill_audit": card})
    content = io.BytesIO()  # written to a file, the archive would contain the temporary file's name
    torch.save({"state_dict": tensors, "distill_audit": card}, content)
    return content.getvalue()
