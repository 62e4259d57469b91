"""Base class and types of all plain data in reports."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from reports.printable import readable

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Data(BaseModel):
    """Base of all data classes: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


Made = TypeVar("Made", bound=Data)


def replaced(made: Made, **fields: Any) -> Made:
    """Return a copy with other values of some fields."""
    return made.model_copy(update=fields)


def encodable(made: Made) -> Made:
    """Return data whose texts UTF-8 can encode: undecodable bytes and surrogates are written as escapes."""
    plain = made.model_dump()
    fit = _encodable(plain)
    return made if fit == plain else type(made).model_validate(fit)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict):
        return {_encodable(key): _encodable(held) for key, held in value.items()}
    return type(value)(map(_encodable, value)) if isinstance(value, list | tuple) else value
