"""Settings as plain data, by which what is trained with them is stored."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def counted(settings: DataclassInstance, later: frozenset[str]) -> dict[str, Any]:
    """Return the fields of a setting; one that came `later` counts where it is not the default.

    So a new field leaves what was stored under earlier settings where it is.
    """
    silent = {name for name in later if getattr(settings, name) == getattr(type(settings), name)}
    return {name: value for name, value in asdict(settings).items() if name not in silent}
