"""Read a model's metadata in the Open Inference Protocol V2, and write images as requests."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, BeforeValidator, Field, StrictStr, ValidationError
from torch import Tensor

from teachers.errors import AuditError, RefusedInput, UsageError
from teachers.http.address import USUAL, Service

Layout = Literal["NCHW", "NHWC"]
Datatype = Literal["FP32", "UINT8"]
FLOATS = ("FP16", "FP32", "FP64")
MOST = 2**24  # pixel values in a fixed batch, at most
STATED = re.compile(r"(?P<name>.+?)(:(?P<datatype>BOOL|BYTES|B?FP?\d+|U?INT\d+))?(:(?P<layout>NCHW|NHWC))?", re.ASCII)


def _whole(size: object) -> object:
    """Accept whole numbers, also as text, which some gateways send."""
    if isinstance(size, str) and re.fullmatch(r"-1|\d{1,9}", size, re.ASCII):
        return int(size)
    if type(size) is not int:
        raise ValueError("no whole number")
    return size


Size = Annotated[int, BeforeValidator(_whole), Field(ge=-1, le=2**31)]


class TensorDescription(BaseModel):
    """An input or output in a model's metadata."""

    name: StrictStr
    datatype: StrictStr
    shape: tuple[Size, ...] = ()


class Metadata(BaseModel):
    """The reply to `GET /v2/models/NAME`."""

    name: StrictStr | None = ""
    platform: StrictStr | None = ""
    versions: tuple[StrictStr, ...] | None = None
    inputs: tuple[TensorDescription, ...] | None = None
    outputs: tuple[TensorDescription, ...] | None = None

    @classmethod
    def of(cls, told: object, who: str) -> Metadata:
        """Parse a server's reply.

        Raises RefusedInput if it is not such metadata.
        """
        try:
            return cls.model_validate({} if told is None else told)
        except ValidationError as e:
            where = ".".join(map(str, e.errors()[0]["loc"])) or "all of it"
            raise RefusedInput(f"the metadata of {who} is not that of the protocol V2: {where:.80} is wrong") from None


@dataclass(frozen=True)
class Signature:
    """The request format of a model."""

    input: str
    datatype: Datatype
    layout: Layout
    batch: int | None  # images per request if the model takes only this number
    output: str | None  # None if neither metadata nor the user names it: a reply must then hold exactly one
    single: bool = False  # an image is sent without a batch dimension

    @classmethod
    def of(
        cls, metadata: object, shape: tuple[int, int, int], classes: int, name: str, service: Service = USUAL
    ) -> Signature:
        """Derive a model's request format for images of shape (C, H, W) from its metadata and the user's options.

        Raises RefusedInput if its inputs or outputs do not fit; UsageError if the user names a tensor that it lacks.
        """
        told = Metadata.of(metadata, name)
        stated = _stated(service.input)
        first = _input(told.inputs or (), stated, name)
        layout, single = _layout(first.shape, shape)
        if stated["name"] and not first.shape:
            layout = "NHWC" if stated["layout"] == "NHWC" else "NCHW"
        if layout is None or (stated["layout"] and layout != stated["layout"] and len(set(shape)) > 1):
            raise RefusedInput(
                f"{name} takes images of shape {_sizes(first.shape)}, and the data has {shape} (C, H, W); "
                "give the --data and the --size that it was trained for"
            )
        datatype: Datatype
        if first.datatype == "FP32":
            datatype = "FP32"
        elif first.datatype == "UINT8":
            datatype = "UINT8"
        else:
            raise RefusedInput(f"{name} takes {first.datatype:.60}; it must take FP32 or UINT8")
        batch = 1 if single else first.shape[0] if first.shape and first.shape[0] > 0 else None
        if batch is not None and batch * math.prod(shape) > MOST:
            raise RefusedInput(f"{name} takes {batch} images at once, too many to send; serve it for fewer")
        return cls(first.name, datatype, layout, batch, _output(told.outputs or (), classes, name, service), single)

    def request(self, images: Tensor) -> bytes:
        """Return the body of a request for images (N, C, H, W), which are uint8 if the model takes UINT8."""
        x = images if self.layout == "NCHW" else images.permute(0, 2, 3, 1)
        shape = list(x.shape[1:] if self.single else x.shape)
        tensor = {"name": self.input, "datatype": self.datatype, "shape": shape, "data": x.flatten().tolist()}
        asked: dict[str, Any] = {"inputs": [tensor]}
        if self.output is not None:
            asked["outputs"] = [{"name": self.output}]
        return json.dumps(asked, separators=(",", ":")).encode()


def declared(metadata: object, service: Service = USUAL) -> tuple[int, ...]:
    """Return the shape of a model's input for images, unknown sizes as −1; empty if its metadata gives none."""
    try:
        inputs = Metadata.of(metadata, "").inputs or ()
        return _input(inputs, _stated(service.input), "").shape
    except AuditError:  # `Signature.of` reports it later
        return ()


def _stated(text: str) -> dict[str, str]:
    """Split --input NAME[:DATATYPE[:LAYOUT]]; missing parts are empty.

    Raises UsageError for a datatype other than FP32 and UINT8.
    """
    found = STATED.fullmatch(text)
    parts = {name: part or "" for name, part in found.groupdict().items()} if found else {}
    if parts.get("datatype") not in (None, "", "FP32", "UINT8"):
        raise UsageError(f"--input {text}: images are sent as FP32 or UINT8, not as {parts['datatype']}")
    return {"name": "", "datatype": "", "layout": "", **parts}


def _input(inputs: Sequence[TensorDescription], stated: dict[str, str], name: str) -> TensorDescription:
    """Return the input for images: the one that the user names, or the only one."""
    wanted, datatype = stated["name"], stated["datatype"]
    if not wanted and len(inputs) != 1:
        raise RefusedInput(
            f"{name} takes {_names(inputs)}; its metadata must list one input, for images, or you name the input with "
            "--input NAME[:DATATYPE]"
        )
    there = [told for told in inputs if wanted in ("", told.name)]
    if not there and inputs:
        raise UsageError(f"--input {wanted}: {name} takes {_names(inputs)}")
    found = there[0] if there else TensorDescription(name=wanted, datatype=datatype or "FP32")
    if datatype and datatype != found.datatype:
        raise UsageError(f"--input {wanted}:{datatype}: {name} says that it takes {found.datatype:.60}")
    return found


def _layout(given: Sequence[int], shape: tuple[int, int, int]) -> tuple[Layout | None, bool]:
    """Return the layout in which images (C, H, W) fit a model's input shape (unknown sizes −1), None if none does,

    and whether the input has no batch dimension. An empty shape fits no layout.
    """

    def fits(sizes: Sequence[int], wanted: Sequence[int]) -> bool:
        return len(sizes) == 3 and all(g in (-1, w) for g, w in zip(sizes, wanted, strict=True))

    channels, height, width = shape
    single = len(given) == 3
    if given and given[0] == 0:
        return None, single
    sizes = given if single else given[1:]
    layout: Layout | None = "NCHW" if fits(sizes, shape) else "NHWC" if fits(sizes, (height, width, channels)) else None
    return layout, single


def _output(outputs: Sequence[TensorDescription], classes: int, name: str, service: Service) -> str | None:
    """Return the output to ask for: the one that the user names, or the only one that fits; None if none is listed."""
    if service.output:
        if outputs and service.output not in [told.name for told in outputs]:
            raise UsageError(f"--output {service.output}: {name} gives {_names(outputs)}")
        return service.output
    if not outputs:
        return None
    fitting = [o for o in outputs if o.datatype in FLOATS and (len(outputs) == 1 or _of_classes(o.shape, classes))]
    if len(fitting) != 1:
        raise RefusedInput(
            f"{name} gives {_names(outputs)}; expected one output of numbers for {classes} classes: name it with "
            "--output"
        )
    return fitting[0].name


def _of_classes(shape: Sequence[int], classes: int) -> bool:
    """Whether an output's shape is (N, K), apart from dimensions of size one."""
    return [size for size in shape[1:] if size != 1] == [classes] or tuple(shape) == (classes,)


def _names(tensors: Sequence[TensorDescription]) -> str:
    return ", ".join(f"{t.name:.60} ({t.datatype:.20} {_sizes(t.shape)})" for t in tensors[:4]) or "nothing"


def _sizes(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape[:8]))}{', …' if len(shape) > 8 else ''}]"


def as_bytes(images: Tensor) -> Tensor:
    """Turn float images in [0, 1] into pixels from 0 to 255."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)
