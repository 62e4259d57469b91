"""Tensors of the Open Inference Protocol V2: what a model's metadata says it takes, images in, rows of numbers out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from torch import Tensor

from teachers.errors import RefusedInput

Layout = Literal["NCHW", "NHWC"]
FLOATS = ("FP16", "FP32", "FP64")


class Told(BaseModel):
    """An input or output, as metadata tells of it."""

    name: str
    datatype: str
    shape: tuple[int, ...] = ()


class Metadata(BaseModel):
    """What `GET /v2/models/NAME` tells."""

    name: str = ""
    platform: str = ""
    versions: tuple[str, ...] | None = None
    inputs: tuple[Told, ...] | None = None
    outputs: tuple[Told, ...] | None = None


@dataclass(frozen=True)
class Signature:
    """How a model is asked."""

    input: str
    datatype: Literal["FP32", "UINT8"]
    layout: Layout
    batch: int | None  # images of every request, where the model takes no other number
    output: str | None  # None: metadata names none, so there must be one

    @classmethod
    def of(cls, metadata: object, shape: tuple[int, int, int], classes: int, name: str) -> Signature:
        """Settle how to ask a model about images of a shape (C, H, W).

        Raises RefusedInput where it takes, or gives, something else.
        """
        try:
            told = Metadata.model_validate(metadata)
        except ValidationError as e:
            where = ".".join(map(str, e.errors()[0]["loc"])) or "all of it"
            raise RefusedInput(f"the metadata of {name} is not that of the protocol V2: {where} is wrong") from None
        inputs = told.inputs or ()
        if len(inputs) != 1:
            raise RefusedInput(f"{name} takes {_names(inputs)}; it must tell of one input, for images, in its metadata")
        (first,) = inputs
        layout = _layout(first.shape, shape)
        if layout is None:
            raise RefusedInput(
                f"{name} takes images of shape {list(first.shape)}, and the data has {shape} (C, H, W); "
                "give the --data and the --size that it was trained for"
            )
        datatype: Literal["FP32", "UINT8"]
        if first.datatype == "FP32":
            datatype = "FP32"
        elif first.datatype == "UINT8":
            datatype = "UINT8"
        else:
            raise RefusedInput(f"{name} takes {first.datatype}; it must take FP32 or UINT8")
        batch = first.shape[0] if first.shape[0] > 0 else None
        return cls(first.name, datatype, layout, batch, _output(told.outputs or (), classes, name))

    def request(self, images: Tensor) -> bytes:
        """Write images (N, C, H, W), bytes where the model takes these, as a request."""
        x = images if self.layout == "NCHW" else images.permute(0, 2, 3, 1)
        tensor = {"name": self.input, "datatype": self.datatype, "shape": list(x.shape), "data": x.flatten().tolist()}
        asked: dict[str, Any] = {"inputs": [tensor]}
        if self.output is not None:
            asked["outputs"] = [{"name": self.output}]
        return json.dumps(asked, separators=(",", ":")).encode()

    def rows(self, reply: object, images: int, classes: int, name: str) -> NDArray[np.float64]:
        """Read an answer: a row of numbers for every image, (N, K).

        Raises RefusedInput where it holds anything else.
        """
        outputs = reply.get("outputs") if isinstance(reply, dict) else None
        given = [o for o in outputs if isinstance(o, dict)] if isinstance(outputs, list) else []
        fitting = [o for o in given if self.output in (None, o.get("name"))]
        if len(fitting) != 1:
            there = ", ".join(f"{o.get('name')!s:.60}" for o in given[:4]) or "none"
            raise RefusedInput(f"{name} answered with the outputs {there}; expected {self.output or 'a single one'}")
        (found,) = fitting
        datatype, shape = found.get("datatype"), found.get("shape")
        if datatype not in FLOATS:
            raise RefusedInput(
                f"{name} answered {datatype!s:.60}; expected a number for every class ({' or '.join(FLOATS)})"
            )
        if not isinstance(shape, list) or len(shape) != 2 or shape[0] != images:
            raise RefusedInput(
                f"{name} answered the shape {shape!s:.60} to {images} images; expected {[images, classes]}"
            )
        if shape[1] != classes:
            raise RefusedInput(f"{name} answered {shape[1]!s:.60} classes; the data has {classes}")
        try:
            values = np.asarray(found.get("data"), np.float64)
        except (TypeError, ValueError, OverflowError):
            raise RefusedInput(f"{name} answered data that are no numbers") from None
        if values.size != images * classes:
            raise RefusedInput(f"{name} answered {values.size} numbers; expected {images * classes}, {shape}")
        return values.reshape(images, classes)


def declared(metadata: object) -> tuple[int, ...]:
    """Return the shape of a model's one input, unknown sizes −1; empty where its metadata tells of none."""
    try:
        inputs = Metadata.model_validate(metadata).inputs or ()
    except ValidationError:  # as the one who asks it will say
        return ()
    return inputs[0].shape if len(inputs) == 1 else ()


def _layout(given: Sequence[int], shape: tuple[int, int, int]) -> Layout | None:
    """Return the layout in which images (C, H, W) fit a model's shape, whose unknown sizes are −1."""

    def fits(wanted: Sequence[int]) -> bool:
        return len(given) == 4 and all(g in (-1, w) for g, w in zip(given[1:], wanted, strict=True))

    channels, height, width = shape
    if given and given[0] == 0:
        return None
    return "NCHW" if fits(shape) else "NHWC" if fits((height, width, channels)) else None


def _output(outputs: Sequence[Told], classes: int, name: str) -> str | None:
    if not outputs:
        return None
    fitting = [o for o in outputs if o.datatype in FLOATS and (len(outputs) == 1 or o.shape[-1:] == (classes,))]
    if len(fitting) != 1:
        raise RefusedInput(f"{name} gives {_names(outputs)}; expected one output of numbers for {classes} classes")
    return fitting[0].name


def _names(tensors: Sequence[Told]) -> str:
    return ", ".join(f"{t.name:.60} ({t.datatype:.20} {list(t.shape)})" for t in tensors[:4]) or "nothing"


def as_bytes(images: Tensor) -> Tensor:
    """Turn float images in [0, 1] into pixels from 0 to 255."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)
