"""Read arrays that `np.savez` wrote, without allocating more memory than their file has bytes."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teachers.storage.entries import Content

MOST_DIRECTORY = 2**14  # bytes of the zip's table of contents


def arrays(content: Content, known: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """Read arrays that `np.savez` wrote, by name; `known` lists the allowed types of each.

    Never allocates more memory than the file has bytes. Raises whatever NumPy and zipfile raise.
    """
    if content.file.read(4) != b"PK\x03\x04" or _directory(content) > MOST_DIRECTORY:
        raise ValueError("is not an archive of arrays")
    with zipfile.ZipFile(content.file) as archive:
        parts = {part.filename.removesuffix(".npy"): part for part in archive.infolist()}
        if len(parts) != len(archive.infolist()) or not parts.keys() <= known.keys():
            raise ValueError("holds other arrays than expected")
        if any(part.file_size > content.size for part in parts.values()):
            raise ValueError("is cut off")
        return {name: _array(archive, part, known[name].split()) for name, part in parts.items()}


def _directory(content: Content) -> int:
    """Return the size of a zip's table of contents without reading it; raise ValueError if anything follows it."""
    content.file.seek(-98, io.SEEK_END)
    tail = content.file.read()
    end, wide = tail[-22:], tail[-42:-38] == b"PK\x06\x07"
    if end[:4] != b"PK\x05\x06" or end[20:] != b"\0\0":
        raise ValueError("is cut off, or longer than expected")
    return int.from_bytes(tail[40:48] if wide else end[12:16], "little")


def _array(archive: zipfile.ZipFile, part: zipfile.ZipInfo, types: list[str]) -> NDArray[Any]:
    """Read one array if its header asks for exactly the bytes present, so that no small file unpacks to a large one."""
    if part.compress_type != zipfile.ZIP_STORED or part.flag_bits & 1 or part.file_size != part.compress_size:
        raise ValueError("holds packed arrays")
    with archive.open(part) as f:
        wide = np.lib.format.read_magic(f) != (1, 0)
        read = np.lib.format.read_array_header_2_0 if wide else np.lib.format.read_array_header_1_0
        shape, _, dtype = read(f)
        asked = math.prod(shape) * dtype.itemsize
        if dtype.str not in types or min(shape, default=0) < 0 or asked != part.file_size - f.tell():
            raise ValueError("holds an array of another size or type than expected")
        f.seek(0)
        found: NDArray[Any] = np.lib.format.read_array(f, allow_pickle=False)
        return found
