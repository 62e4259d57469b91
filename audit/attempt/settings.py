"""Change the setting of an attack by assignments, FIELD=VALUE."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import asdict, replace

from attacks.base import Attack, Technique
from teachers.errors import UsageError


def changed(setting: Attack, assignments: Sequence[str]) -> Attack:
    """Return a setting with other values.

    Raises UsageError for an unknown field, a value of another type, or one that the attack refuses.
    """
    for text in assignments:
        name, equals, value = text.partition("=")
        now = asdict(setting)
        if not equals or name not in now:
            raise UsageError(f"--set {text}: {setting.name} has no such setting; there is {written(setting)}")
        try:
            setting = replace(setting, **{name: _read(value, now[name])})
        except (TypeError, ValueError, AssertionError) as e:
            raise UsageError(f"--set {text}: does not fit ({e}); {name} is {now[name]!r} now") from e
    return setting


def written(technique: Technique) -> str:
    """Return the setting of an attack or a control as a text."""
    return ", ".join(f"{name}={value}" for name, value in asdict(technique).items()) or "no setting"


def _read(text: str, now: object) -> object:
    """Read a value of the type of the present one; any literal in place of None."""
    if isinstance(now, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError) as e:
        raise ValueError("it is no number, True, False or None") from e
    if isinstance(now, bool) != isinstance(value, bool) and now is not None and value is not None:
        raise ValueError(f"it is a {type(value).__name__}, not a {type(now).__name__}")
    if isinstance(now, float) and isinstance(value, int):
        return float(value)
    if isinstance(now, int | float) and not isinstance(value, int if isinstance(now, int) else float):
        raise ValueError(f"it is a {type(value).__name__}, not a {type(now).__name__}")
    return value
