"""Formats told apart by content, never by extension."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from teachers.errors import RefusedInput

LEGACY = bytes.fromhex("80028a0a6cfc9c46f920")  # pickle of torch's old magic number
FOREIGN = {b"TFL3": "a TFLite model", b"\x89HDF": "an HDF5 (Keras) file", b"GGUF": "a GGUF file"}


def kind_of(path: Path) -> str:
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
