"""Read the two container formats of torch.save: an index, which is a pickle, and the bytes of its storages."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from teachers import units
from teachers.errors import RefusedInput
from teachers.intake.archives import sound_members
from teachers.intake.standins import Reader, Storage

MOST_INDEX = 32 * 2**20  # bytes; a network of 5,000 tensors has about half a megabyte
NEWEST = 10  # version of the zip container
LEGACY_VERSION = 1001

Bytes = Callable[[Storage], bytearray]


@dataclass(frozen=True)
class Container:
    """A file's unpickled index, with stand-ins for everything but tensors, and a function that reads its storages."""

    content: object
    dangerous: tuple[str, ...]  # names of the functions that the index would run
    bytes_of: Bytes
    swapped: bool = False  # whether values have the other byte order than this machine

    def storage(self, asked: Storage) -> torch.UntypedStorage:
        """Read the values of a storage."""
        found = self.bytes_of(asked)
        size = asked.numel * _width(asked)
        if len(found) != size:
            raise ValueError(f"record size ({len(found)} bytes) does not match the {size} that the index declares")
        if not found:
            return torch.empty(0, dtype=torch.uint8).untyped_storage()
        storage = torch.frombuffer(found, dtype=torch.uint8).untyped_storage()
        if self.swapped and asked.dtype is not None:
            storage.byteswap(asked.dtype)  # type: ignore[no-untyped-call]
        return storage


def _width(asked: Storage) -> int:
    return asked.dtype.itemsize if asked.dtype is not None else 1


def opened(path: Path, kind: str) -> Container:
    """Read the index of a file of `kind` "torch" or "torch-legacy"; no code in it runs.

    Raises RefusedInput for an index or members that no checkpoint has, and what pickle and zipfile raise for damage.
    """
    return _zip(path) if kind == "torch" else _legacy(path)


def _zip(path: Path) -> Container:
    members = {m.filename: m for m in sound_members(path)}
    index = next(m for name, m in members.items() if name.partition("/")[2] == "data.pkl")
    if index.file_size > MOST_INDEX:
        raise RefusedInput(
            f"{path} has an index of {units.size(index.file_size)}, above {units.size(MOST_INDEX, 0)}; save fewer keys"
        )
    top = index.filename.partition("/")[0]

    def read(name: str) -> bytes:
        with zipfile.ZipFile(path) as z:
            return z.read(members[f"{top}/{name}"])

    version = int(read("version")) if f"{top}/version" in members else NEWEST
    if version > NEWEST:
        raise RefusedInput(f"{path} has the format version {version}; the newest known is {NEWEST}; save it again")
    order = read("byteorder").decode("ascii") if f"{top}/byteorder" in members else "little"
    if order not in ("little", "big"):
        raise RefusedInput(f"{path} has values in the byte order {order[:40]!r}; save the checkpoint again")
    reader = Reader(io.BytesIO(read("data.pkl")))
    content = reader.load()
    return Container(content, reader.dangerous, lambda s: bytearray(read(f"data/{s.key}")), order != sys.byteorder)


def _legacy(path: Path) -> Container:
    """Read the pickles of an old file: magic number, version, system information, content, and storage keys."""
    with path.open("rb") as f:
        readers = [Reader(f) for _ in range(5)]
        _, version, _, content, keys = (reader.load() for reader in readers)
        dangerous = tuple(name for reader in readers for name in reader.dangerous)
        if version != LEGACY_VERSION or type(keys) is not list:
            if dangerous:
                return Container(None, dangerous, _nowhere)
            raise pickle.UnpicklingError("an old container of another version")
        widths = {s.key: _width(s) for reader in readers for s in reader.storages}
        places, size = {}, path.stat().st_size
        for key in keys:
            numel = int.from_bytes(f.read(8), "little")
            length = numel * widths[key]
            if f.tell() + length > size:
                raise EOFError(f"storage {key[:40]} has fewer bytes than it declares")
            places[key] = f.tell(), length
            f.seek(length, io.SEEK_CUR)

    def read(storage: Storage) -> bytearray:
        at, length = places[storage.key]
        with path.open("rb") as f:
            f.seek(at)
            return bytearray(f.read(length))

    return Container(content, dangerous, read)


def _nowhere(storage: Storage) -> bytearray:
    raise KeyError(storage.key)
