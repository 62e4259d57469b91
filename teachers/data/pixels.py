"""Decode a data set's pictures into one array, cached under a digest of the files' content."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from teachers import files, units
from teachers.data import images
from teachers.data.images import MOST_FILE, picture
from teachers.data.stored import LARGE, StoredImages
from teachers.errors import RefusedInput
from teachers.notes import Note, silent
from teachers.task import Images

if TYPE_CHECKING:
    from PIL.Image import Image

READERS = 2  # threads
VERSION = 2  # of the cached format; files with another version are decoded again
DIGEST = 32  # bytes at the end of a cached file: the SHA-256 of all bytes before them
BLOCK = 2**20


def of_files(
    paths: Sequence[Path], size: int | None, channels: int | None, cache: Path | None, note: Note = silent
) -> Images:
    """Decode pictures, or read the cached result of decoding files with the same content.

    Raises RefusedInput, which names the file, if one is no picture.
    """

    def into(path: Path | None) -> Images:
        return decoded(
            len(paths), lambda i: picture(paths[i], channels), lambda i: files.shown(paths[i]), size, path, channels
        )

    if cache is None:
        return into(None)
    kept = cache / "data" / _key(paths, size, channels) / "images.npy"
    if kept.exists() and not _whole(kept):
        note(f"{files.shown(kept)} is damaged; its images are decoded again")
        kept.unlink()
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        try:
            into(unfinished)
            with unfinished.open("ab") as file:
                file.write(_digest(unfinished, unfinished.stat().st_size))
            unfinished.replace(kept)
        finally:
            unfinished.unlink(missing_ok=True)
    os.utime(kept)  # the least recently used is pruned first
    if kept.stat().st_size >= LARGE:
        return cast(Images, StoredImages(kept))
    held: Images = np.load(kept)
    return held


def _key(paths: Sequence[Path], size: int | None, channels: int | None) -> str:
    """Return a digest of the files' content: sizes and times are not reliable, as archives and tools set them."""

    def of(path: Path) -> bytes:
        return hashlib.sha256(files.content(path, MOST_FILE, "a picture, or remove it")).digest()

    key = hashlib.sha256(f"{VERSION} {size} {channels}".encode())
    with ThreadPoolExecutor(READERS) as threads:
        for digest in threads.map(of, paths):
            key.update(digest)
    return key.hexdigest()[:32]


def _whole(kept: Path) -> bool:
    length = kept.stat().st_size - DIGEST
    if length <= 0:
        return False
    with kept.open("rb") as file:
        file.seek(length)
        return file.read() == _digest(kept, length)


def _digest(path: Path, length: int) -> bytes:
    """Return the SHA-256 of the first `length` bytes of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while length:
            block = file.read(min(BLOCK, length))
            found.update(block)
            length -= len(block)
    return found.digest()


def decoded(
    count: int,
    opened: Callable[[int], Image],
    name: Callable[[int], str],
    size: int | None,
    into: Path | None = None,
    channels: int | None = None,
) -> Images:
    """Stack `count` images of mode L or RGB: (count, C, H, W) in memory, or in the .npy file `into`.

    C is `channels` if given; otherwise 1 if all images are gray, else 3.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    def sized(i: int) -> Image:
        image = images.plain(opened(i), channels)
        return image if size is None else ImageOps.fit(image, (size, size), Resampling.BILINEAR)

    def fill(start: int) -> bool:
        gray = True
        for i in range(start, min(start + 256, count)):
            image = sized(i)
            if image.size != (width, height):
                found = f"{name(0)} is {width}x{height} and {name(i)} is {image.width}x{image.height}"
                raise RefusedInput(f"images must have one size but {found}; give --size N to resize and crop them")
            gray &= image.mode == "L"
            stack[i] = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
        return gray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # decoders warn about files that they can read
        width, height = sized(0).size
        stack = _empty(into, (count, channels or 3, height, width))
        with ThreadPoolExecutor(READERS) as threads:
            all_gray = all(list(threads.map(fill, range(0, count, 256))))
    return _one_channel(stack, into) if all_gray and channels is None else stack


def _one_channel(stack: Images, into: Path | None) -> Images:
    """Return the first of three equal channels."""
    count, _, height, width = stack.shape
    aside = None if into is None else into.with_name(f"{into.name}.gray")
    gray = _empty(aside, (count, 1, height, width))
    for at in range(0, count, 256):
        gray[at : at + 256] = stack[at : at + 256, :1]
    if aside is not None and into is not None:
        aside.replace(into)
    return gray


def _empty(path: Path | None, shape: tuple[int, ...]) -> Images:
    """Allocate an array for images, in memory or in a file.

    Raises RefusedInput if there is not enough room.
    """
    count, channels, height, width = shape
    needed, told = count * channels * height * width, f"{count} images of {width}x{height} pixels"
    if path is not None:
        free = shutil.disk_usage(path.parent).free
        if needed > free:
            said = f"{told} take {units.size(needed)} in the cache, where {units.size(free)} are free"
            raise RefusedInput(f"{said}; give a smaller --size, or another --cache")
        return np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    try:
        return np.empty(shape, np.uint8)
    except MemoryError as e:
        raise RefusedInput(f"{told} take {units.size(needed)} of memory; give a smaller --size") from e


def in_channels(stack: Images, channels: int) -> Images:
    """Convert images (N, C, H, W): gray to three equal channels, or colour to gray."""
    if stack.shape[1] == channels:
        return np.ascontiguousarray(stack)
    if channels == 3:
        return np.repeat(stack, 3, axis=1)
    # ITU-R 601 luma, in integers, as Pillow converts to gray.
    weights = np.array([19_595, 38_470, 7_471], np.uint32)[:, None, None]
    gray: Images = ((stack * weights).sum(1, keepdims=True) + 0x8000 >> 16).astype(np.uint8)
    return gray
