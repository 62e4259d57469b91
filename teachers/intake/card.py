"""What a checkpoint of ours says about itself, so that `audit run` needs no other flag."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from teachers import guards
from teachers.intake.normalise import Normalisation
from teachers.networks import Preprocessed

GUARD = "guard."  # prefix of an output defence's tensors


class Card(BaseModel):
    """What a checkpoint of ours says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False  # whether the network takes blue first
    data: str  # as given to --data
    task_digest: str
    method: str
    settings: dict[str, float | str | tuple[float, ...]] = {}
    seed: int = 0
    size: int | None = None
    guard: str = ""  # output defence between the network and its API (teachers/guards.py)
    measured: dict[str, float] = {}  # what the method says of the finished teacher

    @property
    def normalize(self) -> str:
        """The normalisation as --normalize takes it."""
        return str(Normalisation(self.mean, self.std, self.bgr))


def save_teacher(network: Preprocessed, card: Card, path: Path) -> None:
    """Write a checkpoint that needs no other flag: a .safetensors file, or a state dict with its card beside it."""
    inner = network.network
    tensors = inner.state_dict()
    if isinstance(inner, guards.Guarded):
        own, kept = inner.network.state_dict(), inner.guard.state_dict()
        tensors = {**own, **{GUARD + name: t for name, t in kept.items()}}
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    text = json.dumps(card.model_dump(mode="json"), sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(_bytes(tensors, text, path.suffix))
        partial.replace(path)
    except OSError as e:  # of a full disk, it names no file
        partial.unlink(missing_ok=True)
        raise OSError(e.errno, e.strerror, str(path)) from e


def _bytes(tensors: dict[str, torch.Tensor], card: str, suffix: str) -> bytes:
    if suffix == ".safetensors":
        from safetensors.torch import save

        return save(tensors, metadata={"distill_audit": card})
    content = io.BytesIO()  # by a file's name, the archive would hold the temporary one
    torch.save({"state_dict": tensors, "distill_audit": card}, content)
    return content.getvalue()
