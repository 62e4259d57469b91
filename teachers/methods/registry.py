"""The ways to train a teacher, by name, and their settings."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from teachers.errors import UsageError
from teachers.methods.apgp import APGP
from teachers.methods.base import Method
from teachers.methods.cmim import CMIM
from teachers.methods.distilled import Distilled
from teachers.methods.label_smoothing import LabelSmoothing
from teachers.methods.mcmi import MCMI
from teachers.methods.mixed import CutMix, Mixup
from teachers.methods.nasty import Nasty
from teachers.methods.plain import Plain
from teachers.methods.purified import Purified
from teachers.methods.stingy import Stingy
from teachers.methods.student_friendly import StudentFriendly
from teachers.names import way_to_teach

OURS: tuple[type[Method], ...] = (
    Plain,
    LabelSmoothing,
    Mixup,
    CutMix,
    Distilled,
    StudentFriendly,
    MCMI,
    CMIM,
    Nasty,
    Stingy,
    APGP,
    Purified,
)
METHODS = {method.name: method for method in OURS}


def method(name: str, settings: dict[str, str] | None = None) -> Method:
    """Return a method; `settings`, as text, replace its defaults.

    Raises UsageError, which suggests similar names, for an unknown method or setting, or a value that does not fit.
    """
    way_to_teach(name)
    return METHODS[name](**_read(METHODS[name], settings or {}))


def _read(kind: type[Method], given: dict[str, str]) -> dict[str, Any]:
    defaults, types = {f.name: f.default for f in fields(kind)}, get_type_hints(kind, include_extras=True)
    read: dict[str, Any] = {}
    for name, text in given.items():
        if name not in defaults:
            there = f"there are {', '.join(defaults)}" if defaults else "it has none"
            raise UsageError(f"{kind.name} has no setting {name!r}; {there}")
        default = defaults[name]
        try:
            read[name] = TypeAdapter(types[name]).validate_python(
                text.split("/") if isinstance(default, tuple) else text
            )
        except ValidationError as e:
            reason = e.errors()[0]["msg"].removeprefix("Input ")
            raise UsageError(f"{kind.name}: {name}={text} {reason}; the default is {written(default)}") from None
    return read


def written(value: Any) -> str:
    """Return a setting's value as `--set` takes it."""
    return "/".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)
