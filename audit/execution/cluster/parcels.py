"""Images on their way to the nodes: once into the cluster's object store, from where every node takes them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from teachers.data.stored import LARGE, StoredImages
from teachers.errors import RefusedInput
from teachers.task import Augment, Pool

PART = 2**26  # bytes of images in one object, about

Put = Callable[[Any], Any]  # an object into the object store; returns a reference to it
Get = Callable[[Any], Any]


@dataclass(frozen=True)
class Parcel:
    """A pool whose images are objects of the store."""

    digest: str
    labels: Any  # a reference to (N,) int64; None where the holder knows none
    augment: Augment
    shape: tuple[int, ...]  # (N, C, H, W)
    images: tuple[Any, ...]  # references to (n, C, H, W) uint8

    @property
    def size(self) -> int:
        """Bytes of the images."""
        return int(np.prod(self.shape))


class Parcels:
    """What was put into the object store, by digest; it stays there while this object lives."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._packed: dict[str, Parcel] = {}

    def of(self, pool: Pool) -> Parcel:
        """Return the parcel of a pool."""
        if pool.digest not in self._packed:
            rows = max(1, PART // max(1, int(np.prod(pool.shape))))
            starts = range(0, len(pool), rows)
            images = tuple(self._put(np.ascontiguousarray(pool.images[at : at + rows])) for at in starts)
            labels = None if pool.labels is None else self._put(pool.labels)
            self._packed[pool.digest] = Parcel(pool.digest, labels, pool.augment, pool.images.shape, images)
        return self._packed[pool.digest]


def unpacked(parcel: Parcel, get: Get, folder: Path) -> Pool:
    """Return the pool of a parcel, with large images in a file of `folder`.

    Raises RefusedInput if the images are others than the driver's.
    """
    labels = None if parcel.labels is None else np.array(get(parcel.labels))  # what arrives is read-only
    if parcel.size < LARGE:
        parts = [get(part) for part in parcel.images]
        images = np.concatenate([np.zeros((0, *parcel.shape[1:]), np.uint8), *parts])
        pool = Pool(images, labels, parcel.augment)
    else:
        path = folder / f"{parcel.digest}.npy"
        if not path.exists():
            _write(parcel, get, path)
        pool = Pool(StoredImages(path), labels, parcel.augment)  # type: ignore[arg-type]
    if pool.digest != parcel.digest:
        raise RefusedInput(f"{len(pool):,} images arrived changed on this node; run the same command again")
    return pool


def _write(parcel: Parcel, get: Get, path: Path) -> None:
    """Write images part by part; a file of that name is always whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    os.close(handle)
    try:
        array = np.lib.format.open_memmap(name, "w+", np.uint8, parcel.shape)
        at = 0
        for part in map(get, parcel.images):
            array[at : at + len(part)] = part
            at += len(part)
        array.flush()
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
