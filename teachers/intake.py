"""From "any checkpoint" to a callable network: the only place that opens a stranger's file."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from teachers import guards, networks
from teachers.errors import RefusedInput, UsageError
from teachers.networks import Preprocessed

LEGACY = bytes.fromhex("80028a0a6cfc9c46f920")  # pickle of torch's old magic number
NESTS = ("state_dict", "model_state_dict", "model", "net", "module", "ema", "model_ema")
PREFIXES = ("module.", "_orig_mod.", "network.")
FOREIGN = {b"TFL3": "a TFLite model", b"\x89HDF": "an HDF5 (Keras) file", b"GGUF": "a GGUF file"}
GUARD = "guard."  # prefix of an output defence's tensors
NORMALISATIONS = {
    "none": ((0.0,), (1.0,)),
    "half": ((0.5,), (0.5,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


class Card(BaseModel):
    """What a checkpoint of ours says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
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
        return "/".join(",".join(map(str, part)) for part in (self.mean, self.std))


@dataclass(frozen=True)
class Weights:
    """An opened file: tensors by name, and its card if it has one of ours."""

    path: Path
    sha256: str
    tensors: dict[str, Tensor]
    card: Card | None


@dataclass(frozen=True)
class Teacher:
    """A network with its preprocessing: raw pixels in [0, 1] to logits."""

    name: str
    sha256: str
    network: nn.Module
    architecture: str
    method: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    card: Card | None = None


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
    kind = _kind(path)
    found = _load_safetensors(path) if kind == "safetensors" else _load_torch(path)
    tensors, card = found
    if not tensors:
        raise RefusedInput(f"{path} holds no tensors; give a state dict")
    bad = [name for name, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise RefusedInput(f"{path}: {bad[0]} has NaN or infinite values ({len(bad)} tensors do); this model is broken")
    return Weights(path, sha256, tensors, card)


def _kind(path: Path) -> str:
    """Tell formats apart by content, never by extension."""
    with path.open("rb") as f:
        head = f.read(16)
    if head[:4] == b"PK\x03\x04":
        return _zip_kind(path)
    if head.startswith(LEGACY):
        return "torch"
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < path.stat().st_size:
        return "safetensors"
    for magic, what in FOREIGN.items():
        if magic in head[:8]:
            raise RefusedInput(f"{path} is {what}; convert it to a state dict or safetensors")
    if head[:1] == b"\x80":
        raise RefusedInput(f"{path} is a pickle, which would run code when opened; save the state dict with torch.save")
    raise RefusedInput(f"{path} is no checkpoint this tool knows; give a state dict (.pt) or a .safetensors file")


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as z:
            names = z.namelist()
    except zipfile.BadZipFile as e:
        raise RefusedInput(f"{path} is a damaged zip file ({e}); save the checkpoint again") from e
    members = {name.partition("/")[2] for name in names}
    programs = {
        "archive_format": "a torch.export program",
        "serialized_exported_program.json": "a torch.export program",
        "constants.pkl": "a TorchScript program",
    }
    for member, what in programs.items():
        if member in members:
            raise RefusedInput(f"{path} is {what}, which runs code when opened; give its state dict and --arch")
    if any(name.startswith("MAR-INF/") for name in names):
        raise RefusedInput(f"{path} is a TorchServe archive; give the state dict inside it and --arch")
    if "data.pkl" not in members:
        raise RefusedInput(f"{path} is a zip file but no checkpoint; give a state dict saved with torch.save")
    return "torch"


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


def normalisation(text: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read --normalize: a name, or `mean/std` with commas between channels, such as `0.5,0.5,0.5/0.25,0.25,0.25`."""
    if text in NORMALISATIONS:
        mean, std = NORMALISATIONS[text]
    else:
        try:
            mean, std = (tuple(float(v) for v in part.split(",")) for part in text.split("/"))
        except ValueError:
            names = ", ".join(NORMALISATIONS)
            raise UsageError(f"--normalize {text!r} is neither one of {names} nor MEAN/STD, such as 0.5/0.25") from None
    mean, std = (part * channels if len(part) == 1 else part for part in (mean, std))
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise UsageError(f"--normalize {text!r} does not fit images of {channels} channels, each with a std above 0")
    return mean, std


def assemble(weights: Weights, architecture: str, classes: int, shape: networks.Shape, normalize: str) -> Teacher:
    """Put the tensors of a foreign checkpoint into a network.

    Raises RefusedInput where keys or shapes differ, naming them.
    """
    mean, std = normalisation(normalize, shape[0])
    network = networks.build(architecture, classes, shape)
    networks.try_out(network, architecture, classes, shape)
    card = weights.card
    own = {n: t for n, t in weights.tensors.items() if not (card and card.guard and n.startswith(GUARD))}
    _check_fit(replace(weights, tensors=own), network, architecture, classes)
    network.load_state_dict(own)
    whole = Preprocessed(network, mean, std)
    if card is not None and card.guard:
        kept = {n.removeprefix(GUARD): t for n, t in weights.tensors.items() if n.startswith(GUARD)}
        whole = guards.behind(whole, guards.restore(card.guard, classes, kept))
    method = card.method if card else "unknown"
    return Teacher(weights.path.name, weights.sha256, whole, architecture, method, mean, std, card)


def _check_fit(weights: Weights, network: nn.Module, architecture: str, classes: int) -> None:
    wanted = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    given = {name: tuple(t.shape) for name, t in weights.tensors.items()}
    missing, surplus = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or surplus:
        parts = [f"{len(m)} {what} (first: {m[0]})" for m, what in ((missing, "missing"), (surplus, "surplus")) if m]
        raise RefusedInput(
            f"{weights.path} does not fit --arch {architecture}: keys {', '.join(parts)}; name its --arch"
        )
    wrong = [name for name in wanted if wanted[name] != given[name]]
    if wrong and wrong[-1] in list(wanted)[-2:] and len(wrong) <= 2 and given[wrong[0]]:
        raise RefusedInput(
            f"{weights.path} has {given[wrong[0]][0]} outputs but the data has {classes} classes; "
            "give the --data it was trained for"
        )
    if wrong:
        name = wrong[0]
        raise RefusedInput(
            f"{weights.path} does not fit --arch {architecture}: {name} has shape {given[name]}, "
            f"not {wanted[name]} ({len(wrong)} differ)"
        )


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
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(tensors, partial, metadata={"distill_audit": text})
    else:
        with partial.open("wb") as f:  # by name, the archive would hold the temporary one
            torch.save({"state_dict": tensors, "distill_audit": text}, f)
    partial.replace(path)
