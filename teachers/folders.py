"""Load a folder of images, and turn any stack of decoded images into a task."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from teachers.errors import RefusedInput
from teachers.stored import LARGE, Stored, taken
from teachers.task import Augment, Images, Labels, Pool, Task, known, stratified

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
GRAY_MODES = frozenset({"1", "L", "LA"})
READERS = 2  # decoding threads
MANY, HELD_OUT = 15_000, 3_000  # a large training split gives up at least HELD_OUT images: fewer mislead tuning


def image_folder(root: Path, cache: Path | None = None, size: int | None = None) -> Task:
    """Load `root`/train/<class>/* and test/<class>/*; without validation/ or val/, hold training images out."""
    held_out = next((root / name for name in ("validation", "val") if (root / name).is_dir()), None)
    splits = [_listed(root / "train"), _listed(root / "test"), *([_listed(held_out)] if held_out else [])]
    classes = tuple(splits[0])
    for split, folder in zip(splits[1:], [root / "test", held_out], strict=False):
        if missing := sorted(splits[0].keys() ^ split.keys()):
            raise RefusedInput(
                f"{root / 'train'} and {folder} must hold the same classes; only one has {_some(missing)}"
            )
    files = [file for split in splits for of_class in split.values() for file in of_class]
    labels = np.concatenate([np.repeat(np.arange(len(s)), [len(f) for f in s.values()]) for s in splits])
    images = _cached(root, files, size, cache)
    counts = [sum(map(len, split.values())) for split in splits]
    return assembled(root.resolve().name, classes, images, labels, counts, flip=True)


def loose_images(root: Path, shape: tuple[int, int, int], cache: Path | None = None) -> Images:
    """Load every image under `root`, in sorted order, resized and cropped to (C, H, W): gray or colour as C asks."""
    if not root.is_dir():
        raise RefusedInput(f"there is no folder {root}; give a folder of images")
    files = sorted(f for f in root.rglob("*") if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
    if not files:
        raise RefusedInput(f"{root} holds no image ({' '.join(sorted(SUFFIXES))}); give a folder of images")
    channels, height, width = shape
    images = np.asarray(_cached(root, files, max(height, width), cache))  # squares
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    images = images[:, :, top : top + height, left : left + width]
    if images.shape[1] == channels:
        return np.ascontiguousarray(images)
    if channels == 3:
        return np.repeat(images, 3, axis=1)
    # ITU-R 601 luma, in integers, as Pillow converts to gray.
    weights = np.array([19_595, 38_470, 7_471], np.uint32)[:, None, None]
    gray: Images = ((images * weights).sum(1, keepdims=True) + 0x8000 >> 16).astype(np.uint8)
    return gray


def _listed(folder: Path) -> dict[str, list[Path]]:
    """List the image files of each class folder, both sorted."""
    if not folder.is_dir():
        raise RefusedInput(f"{folder} is missing; a data set is a folder with train/<class>/* and test/<class>/*")
    listed = {}
    for of_class in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        files = sorted(f for f in of_class.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
        if not files:
            raise RefusedInput(
                f"class folder {of_class} holds no image ({' '.join(sorted(SUFFIXES))}); remove or fill it"
            )
        listed[of_class.name] = files
    return listed


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _cached(root: Path, files: list[Path], size: int | None, cache: Path | None) -> Images:
    """Decode the files, or read back what an earlier start decoded from the same files."""
    if not files:
        raise RefusedInput(f"{root / 'train'} holds no class folder; a data set needs at least 2 classes")
    if cache is None:
        return decoded(len(files), lambda i: _read(files[i]), lambda i: str(files[i]), size)
    key = hashlib.sha256(f"{root.resolve()} {size}".encode())
    for file in files:
        stat = file.stat()
        key.update(f"\n{file.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}".encode())
    kept = cache / "data" / key.hexdigest()[:32] / "images.npy"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(f".{os.getpid()}")
        decoded(len(files), lambda i: _read(files[i]), lambda i: str(files[i]), size, unfinished)
        unfinished.replace(kept)
    os.utime(kept)  # what was not used for long is pruned first
    if kept.stat().st_size >= LARGE:
        return cast(Images, Stored(kept))
    images: Images = np.load(kept)
    return images


def _read(path: Path) -> Image:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise RefusedInput(f"{path} has more than 8 bits a channel (mode {image.mode}); save it with 8 bits")
            return plain(image)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise RefusedInput(f"{path} cannot be read as an image ({error}); replace or remove it") from error


def plain(image: Image) -> Image:
    """Convert to mode L or RGB."""
    return image.convert("L" if image.mode in GRAY_MODES else "RGB")


def decoded(
    count: int,
    opened: Callable[[int], Image],
    name: Callable[[int], str],
    size: int | None,
    into: Path | None = None,
) -> Images:
    """Stack `count` images, (count, 1, H, W) where all are gray and else (count, 3, H, W); in a .npy file, if named."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    def sized(i: int) -> Image:
        return opened(i) if size is None else ImageOps.fit(opened(i), (size, size), Resampling.BILINEAR)

    width, height = sized(0).size
    stack = _empty(into, (count, 3, height, width))

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

    with ThreadPoolExecutor(READERS) as threads:
        all_gray = all(list(threads.map(fill, range(0, count, 256))))
    if not all_gray:
        return stack
    aside = None if into is None else into.with_name(f"{into.name}.gray")
    gray = _empty(aside, (count, 1, height, width))
    for at in range(0, count, 256):
        gray[at : at + 256] = stack[at : at + 256, :1]
    if aside is not None and into is not None:
        aside.replace(into)
    return gray


def _empty(path: Path | None, shape: tuple[int, ...]) -> Images:
    if path is None:
        return np.empty(shape, np.uint8)
    return np.lib.format.open_memmap(path, "w+", np.uint8, shape)


def assembled(
    name: str, classes: tuple[str, ...], images: Images, labels: Labels, counts: list[int], *, flip: bool
) -> Task:
    """Cut images in the order training, test, validation; without the last, hold some training images out."""
    if len(classes) < 2:
        raise RefusedInput(f"{name} has {len(classes)} class; a data set needs at least 2")
    augment = Augment(pad=max(1, min(images.shape[2:]) // 8), flip=flip)
    edges = np.cumsum(counts)[:-1]
    parts = (np.arange(a, b) for a, b in pairwise([0, *edges.tolist(), len(labels)]))
    pools = [Pool(taken(images, part), labels[part], augment) for part in parts]
    train, test, *rest = pools
    validation = rest[0] if rest else None
    if validation is None:
        train, validation = _held_out(train, classes)
    return Task(name, classes, train, validation, test)


def _held_out(train: Pool, classes: tuple[str, ...]) -> tuple[Pool, Pool]:
    """Split a training pool into training and validation, the same way every time."""
    labels = known(train)
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < 2:
        scarce = classes[int(counts.argmin())]
        raise RefusedInput(
            f"class {scarce} has {counts.min()} training images; validation takes one, so give at least 2"
        )
    # Each class is rounded on its own: half an image more for each keeps the promise of HELD_OUT.
    wanted = (HELD_OUT + len(classes) / 2) / len(train) if len(train) >= MANY else 0
    chosen = stratified(labels, max(0.1, wanted), seed=0)
    return train.take(np.setdiff1d(np.arange(len(train)), chosen)), train.take(chosen)
