"""Recognise file formats by content, never by extension."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal, get_args

from teachers.errors import RefusedInput
from teachers.intake.archives import sound_members

Kind = Literal["torch", "torch-legacy", "safetensors", "onnx", "huggingface", "torchscript", "export", "pickle"]
Program = Literal["onnx", "huggingface", "torchscript", "export", "module"]  # formats that answer by themselves
PROGRAMS: tuple[str, ...] = get_args(Program)

LEGACY = bytes.fromhex("80028a0a6cfc9c46f920")  # pickle of torch's old magic number
FOREIGN = {
    b"TFL3": "a TFLite model",
    b"\x89HDF": "an HDF5 (Keras) file",
    b"GGUF": "a GGUF file",
    b"\x93NUMPY": "a numpy array",
    b"\x1f\x8b": "a gzip file; unpack it, or",
    b"\xfd7zXZ": "an xz file; unpack it, or",
    b"version ": "a Git LFS pointer and not the file itself; run `git lfs pull`, or",
    b"<!DOCTYP": "a web page that was saved in place of the file; download it again, or",
    b"<html": "a web page that was saved in place of the file; download it again, or",
    b"\x7fELF": "a compiled library",
}


def kind_of(path: Path) -> Kind:
    """Return the format of a file or folder.

    Raises RefusedInput, which names the format if known, if this tool does not open it.
    """
    if path.is_dir():
        return "huggingface"
    size = path.stat().st_size
    with path.open("rb") as f:
        head = f.read(16)
        f.seek(0)
        onnx = _looks_like_onnx(f, size)
    if head[:4] == b"PK\x03\x04":
        return _zip_kind(path)
    if head.startswith(LEGACY):
        return "torch-legacy"
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        return "safetensors"
    for magic, what in FOREIGN.items():
        if magic in head[:8]:
            way = "convert it to a state dict, safetensors or ONNX"
            raise RefusedInput(f"{path} is {what}{' ' if what.endswith('or') else '; '}{way}")
    if head[:1] == b"\x80":
        return "pickle"
    if onnx:
        return "onnx"
    known = "a state dict (.pt), a .safetensors or .onnx file, or a Hugging Face folder"
    raise RefusedInput(f"{path} is not a checkpoint that this tool knows; give {known}")


def _zip_kind(path: Path) -> Kind:
    names = [member.filename for member in sound_members(path)]
    members = {name.partition("/")[2] for name in names}
    if members & {"archive_format", "serialized_exported_program.json"}:
        return "export"
    if "constants.pkl" in members:
        return "torchscript"
    if any(name.startswith("MAR-INF/") for name in names):
        raise RefusedInput(f"{path} is a TorchServe archive; give the state dict inside it and --arch")
    if any(name.endswith(".weights.h5") for name in names):
        raise RefusedInput(f"{path} is a Keras model; convert it to ONNX")
    if any(name.endswith(".npy") for name in names):
        raise RefusedInput(f"{path} is an archive of numpy arrays; save a state dict with torch.save")
    if "data.pkl" not in members:
        raise RefusedInput(f"{path} is a zip file but not a checkpoint; give a state dict saved with torch.save")
    return "torch"


def _looks_like_onnx(f: BinaryIO, size: int) -> bool:
    """Whether the first fields of a protobuf message are an ir_version, other fields of ModelProto, then a graph."""
    began = False
    while f.tell() < size:
        tag = _varint(f)
        if tag is None or not (1 <= tag >> 3 <= 25):
            return False
        if tag == 7 << 3 | 2:
            return began
        if tag & 7 == 0:
            began |= tag >> 3 == 1
            if _varint(f) is None:
                return False
        elif tag & 7 == 2:
            length = _varint(f)
            if length is None or f.tell() + length > size:
                return False
            f.seek(length, 1)
        else:
            return False
    return False


def _varint(f: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = f.read(1)
        if not byte:
            return None
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    return None
