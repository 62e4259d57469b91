"""Images that stay on disk and are read a few at a time, so that memory does not grow with the data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]

LARGE = 2**28  # bytes: image arrays of at least this size stay on disk
CHUNK = 256  # images read at once


class StoredImages:
    """Some rows of an array (N, C, H, W) uint8 in a .npy file; indexing returns a copy in memory."""

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, path: Path, rows: Rows | None = None) -> None:
        self.path = path
        self._file = np.load(path, mmap_mode="r")
        self.rows: Rows = np.arange(len(self._file)) if rows is None else rows
        self.shape = (len(self.rows), *self._file.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes in memory: those of the row indices only."""
        return self.rows.nbytes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Read images; `key` is an index, a slice or an array of indices."""
        return np.array(self._file[self.rows[key]])

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for part in chunks(self):
            yield from part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        """Read all images."""
        return self[:] if dtype is None else self[:].astype(dtype)

    def take(self, index: Rows) -> StoredImages:
        """Select some rows, still on disk."""
        return StoredImages(self.path, self.rows[index])

    def __reduce__(self) -> tuple[type[StoredImages], tuple[Path, Rows]]:
        return StoredImages, (self.path, self.rows)


def chunks(images: StoredImages | NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield images in blocks of CHUNK."""
    for at in range(0, len(images), CHUNK):
        yield np.ascontiguousarray(images[at : at + CHUNK])


def taken(images: Any, index: Rows) -> Any:
    """Select the images at `index`; images on disk stay on disk."""
    return images.take(index) if isinstance(images, StoredImages) else images[index]
