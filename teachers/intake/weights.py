"""Weights out of a stranger's file: tensors by name, nothing executed."""

from __future__ import annotations

import difflib
import hashlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from teachers.errors import RefusedInput
from teachers.intake.card import Card
from teachers.intake.formats import kind_of

NESTS = ("state_dict", "model_state_dict", "model", "net", "module", "ema", "model_ema")
PREFIXES = ("module.", "_orig_mod.", "network.")


@dataclass(frozen=True)
class Weights:
    """An opened file: tensors by name, and its card if it has one of ours."""

    path: Path
    sha256: str
    tensors: dict[str, Tensor]
    card: Card | None


def open_weights(path: Path) -> Weights:
    """Open a state dict (torch.save, new or legacy container) or a safetensors file; nothing in it is executed.

    Raises RefusedInput with one sentence for anything else.
    """
    if path.is_dir():
        raise RefusedInput(f"{path} is a folder; give a checkpoint")
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "give a checkpoint"
        raise RefusedInput(f"there is no file {path}; {hint}")
    with path.open("rb") as f:
        sha256 = hashlib.file_digest(f, "sha256").hexdigest()
    kind = kind_of(path)
    found = _load_safetensors(path) if kind == "safetensors" else _load_torch(path)
    tensors, card = found
    if not tensors:
        raise RefusedInput(f"{path} holds no tensors; give a state dict")
    bad = [name for name, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise RefusedInput(f"{path}: {bad[0]} has NaN or infinite values ({len(bad)} tensors do); this model is broken")
    return Weights(path, sha256, tensors, card)


def _load_torch(path: Path) -> tuple[dict[str, Tensor], Card | None]:
    try:
        with path.open("rb") as f:  # given a path, torch would go by its extension
            content = torch.load(f, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError) as e:
        reason = re.sub(r"\x1b\[[0-9;]*m", "", str(e)).strip().splitlines()[0][:200]
        raise RefusedInput(f"{path} holds more than tensors and was not opened ({reason}); save the state dict") from e
    card = None
    if isinstance(content, Mapping) and isinstance(content.get("distill_audit"), str):
        card = _card(path, content["distill_audit"])
    return _tensors(path, content), card


def _load_safetensors(path: Path) -> tuple[dict[str, Tensor], Card | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as f:
            text = (f.metadata() or {}).get("distill_audit")
            tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118  # safe_open is no mapping
    except (SafetensorError, OSError) as e:
        raise RefusedInput(f"{path} is a damaged safetensors file ({e}); save it again") from e
    return _tensors(path, tensors), _card(path, text) if text else None


def _card(path: Path, text: str) -> Card:
    try:
        return Card.model_validate_json(text)
    except ValidationError as e:
        raise RefusedInput(f"{path} carries a description of itself that does not fit: {e.errors()[0]['msg']}") from e


def _tensors(path: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for nest in NESTS:
            inner = content.get(nest)
            if isinstance(inner, Mapping) and any(isinstance(v, Tensor) for v in inner.values()):
                content = inner
                break
    if not isinstance(content, Mapping):
        raise RefusedInput(f"{path} holds a {type(content).__name__}, not a state dict; save model.state_dict()")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for prefix in PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors
