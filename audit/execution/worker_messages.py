"""Messages between an audit's processes: one model for each kind; anything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError

from teachers import views
from teachers.precision import FLOAT32, Precision
from teachers.processes.messages import SENTENCE, TRACE, Message, fitting
from teachers.processes.pipes import Arrays, PipeError, said
from teachers.training import MOST_DECODED, Report

Seconds = Annotated[float, Field(ge=0, le=10**9)]
Share = Annotated[float, Field(ge=0, le=1)]


class Views(Message):
    """A number of views, all of one kind."""

    kind: views.Kind
    count: Annotated[int, Field(ge=1, le=10_000)]


class AskViews(Message):
    """A worker's query for views of some images of a pool."""

    say: Literal["ask"]
    pool: Annotated[str, Field(max_length=64)]
    sets: Annotated[list[Views], Field(min_length=1, max_length=10)]


class AskImages(Message):
    """A worker's query for images that it made."""

    say: Literal["ask"]
    estimate: bool


class Step(Message):
    """A worker's message that training goes on."""

    say: Literal["step"]


class Recipe(Message):
    """The recipe that a worker reports: it goes into the record, but must not be trusted."""

    architecture: Annotated[str, Field(max_length=200)]
    steps: Annotated[int, Field(ge=1, le=10**9)]
    batch: Annotated[int, Field(ge=1, le=10**6)]
    lr: Annotated[float, Field(ge=0, le=10**6)]
    momentum: Share
    weight_decay: Annotated[float, Field(ge=0, le=10**6)]
    warmup: Share
    views: Annotated[int, Field(ge=1, le=10_000)]
    wrap: Annotated[str, Field(max_length=200)] | None
    precision: Precision = FLOAT32


class StudentReport(Message):
    """A worker's report on the training run."""

    recipe: Recipe
    view: Annotated[str, Field(max_length=100)]
    source: Annotated[str, Field(max_length=100)]
    parameters: Annotated[int, Field(ge=0, le=10**12)]
    diverged: bool
    seconds: Seconds
    step_seconds: Seconds
    repeats: Share | None
    decoded: Annotated[str, Field(max_length=MOST_DECODED)]
    memory: Annotated[int, Field(ge=0, le=2**50)] = 0


class Student(Message):
    """A worker's message that its student is trained; the weights follow as arrays."""

    say: Literal["trained"]
    report: StudentReport


class Problem(Message):
    """Why a worker could not train a student."""

    sentence: Annotated[str, Field(max_length=SENTENCE)]
    trace: Annotated[str, Field(max_length=TRACE)]
    code: Literal[2, 4, 5, 70]
    crowded: bool = False  # whether the card had no memory for it


class Breakdown(Message):
    """A worker's message that its student could not be trained."""

    say: Literal["failed"]
    failure: Problem


Words = AskViews | AskImages | Step | Student | Breakdown
WORDS: TypeAdapter[Words] = TypeAdapter(Words)


def word(header: Mapping[str, Any]) -> Words:
    """Parse a worker's message.

    Raises PipeError where it is not one of the known kinds.
    """
    try:
        return WORDS.validate_python(header)
    except ValidationError as e:
        raise PipeError(f"{str(header.get('say'))[:20]!r}: {said(e)}") from e


def weighed(arrays: Arrays, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of a message as tensors; they must match the network in name, type and shape.

    Raises PipeError where they do not match.
    """
    there = network.state_dict()
    if set(arrays) != set(there):
        wrong = sorted(set(arrays) ^ set(there))
        raise PipeError(f"{len(wrong)} weights that differ from the network's by name (first: {wrong[0][:60]!r})")
    found = {}
    for name, tensor in there.items():
        wanted = str(tensor.dtype).removeprefix("torch.")
        found[name] = torch.from_numpy(fitting(arrays, name, wanted, tuple(tensor.shape)))
    return found


def finished(report: Report) -> dict[str, Any]:
    """Return the header of the message that a student is trained."""
    return {"say": "trained", "report": asdict(report)}
