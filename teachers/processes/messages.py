"""Validate the messages between processes: questions, answers and refusals, one model for each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from teachers.errors import BudgetExceeded, NothingAudited, RefusedInput, UsageError
from teachers.processes.pipes import Arrays, PipeError, said
from teachers.surface import Answers, Kind

SENTENCE = 2_000  # characters of a message's sentence, at most


TRACE = 50_000


MOST_CLASSES = 10**6


REFUSALS = {
    error.__name__: error
    for error in (BudgetExceeded, NothingAudited, UsageError, RefusedInput, ValueError, PermissionError)
}


class Message(BaseModel):
    """The base of all messages: types are exact, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Refusal(Message):
    """An error, instead of an answer: its type and its sentence."""

    refused: Annotated[str, Field(max_length=100)]
    sentence: Annotated[str, Field(max_length=TRACE)]


class AnswerKind(Message):
    """The kind of the answers whose arrays travel with this message."""

    kind: Kind


M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], header: Mapping[str, Any]) -> M:
    """Parse a message of the expected kind.

    Raises PipeError if it is another.
    """
    try:
        return model.model_validate(dict(header))
    except ValidationError as e:
        raise PipeError(said(e)) from e


def one(arrays: Arrays, name: str, dtype: str, shape: tuple[int | None, ...], least: int = 1) -> np.ndarray:
    """Return a message's only array; None in `shape` stands for any size of at least `least`.

    Raises PipeError if it has other arrays, or the type or shape differs.
    """
    if set(arrays) != {name}:
        raise PipeError(f"arrays {sorted(arrays)!r:.60} in place of {name!r}")
    return fitting(arrays, name, dtype, shape, least)


def fitting(arrays: Arrays, name: str, dtype: str, shape: tuple[int | None, ...], least: int = 1) -> np.ndarray:
    """Return one array of a message, after checking its type and shape.

    Raises PipeError if it is missing, or the type or shape differs.
    """
    array = arrays.get(name)
    if array is None:
        raise PipeError(f"no array {name!r}")
    right = len(array.shape) == len(shape) and all(
        have >= least if want is None else have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != np.dtype(dtype) or not right:
        wanted = "×".join("?" if size is None else str(size) for size in shape)
        raise PipeError(f"{name}: {array.dtype} {array.shape} in place of {dtype} {wanted}")
    return array


def refusal(error: BaseException) -> dict[str, Any]:
    """Return an error as a message."""
    name = next((name for name, kind in REFUSALS.items() if isinstance(error, kind)), UsageError.__name__)
    return {"refused": name, "sentence": plain(str(error))}


def plain(text: str, most: int = SENTENCE) -> str:
    """Return the last `most` characters of a text, without characters that JSON cannot hold."""
    return text.encode("utf-8", "replace").decode()[-most:]


def raise_refusal(header: Mapping[str, Any]) -> None:
    """Raise the error that a message holds, if it holds one."""
    if "refused" in header:
        found = parse(Refusal, header)
        raise REFUSALS.get(found.refused, RefusedInput)(found.sentence)


def told(answers: Answers) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return answers as a message."""
    arrays = {"values": answers.values.numpy()}
    if answers.gradients is not None:
        arrays["gradients"] = answers.gradients.numpy()
    return {"kind": answers.kind}, arrays


def heard(header: Mapping[str, Any], arrays: Arrays, images: int, shape: Sequence[int] | None = None) -> Answers:
    """Return a message's answers to `images` images; gradients must have the images' `shape`, if given.

    Raises PipeError if they are missing, or differ in number, type or shape.
    """
    kind = parse(AnswerKind, header).kind
    explains = kind == "gradients"
    if set(arrays) != ({"values", "gradients"} if explains else {"values"}):
        raise PipeError(f"arrays {sorted(arrays)!r:.60} for answers of kind {kind}")
    if kind == "label":
        values = fitting(arrays, "values", "int64", (images,))
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < MOST_CLASSES:
            raise PipeError("labels that are not class numbers")
    else:
        values = fitting(arrays, "values", "float32", (images, None), 2)
        if np.isnan(values).any() or (values == np.inf).any():
            raise PipeError("answers that are not log-probabilities")
    gradients = fitting(arrays, "gradients", "float32", (images, *(shape or (None,) * 3))) if explains else None
    return Answers(kind, torch.from_numpy(values), None if gradients is None else torch.from_numpy(gradients))
