"""Load a data set that torchvision finds on disk, without downloading anything or trusting its files."""

from __future__ import annotations

import bz2
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from teachers import units
from teachers.data import watching
from teachers.data.folders import assembled
from teachers.data.images import plain
from teachers.data.pixels import decoded
from teachers.errors import RefusedInput, UsageError
from teachers.files import shown
from teachers.names import nearest
from teachers.task import Task

if TYPE_CHECKING:
    from PIL.Image import Image

# Not flipped: a mirrored digit, letter, text or road sign belongs to another class or to none.
ONE_HANDED = frozenset({"MNIST", "KMNIST", "QMNIST", "EMNIST", "USPS", "SVHN", "GTSRB", "RenderedSST2"})
MOST_UNPACKED = 2**25  # bytes; USPS has 18 MB of text

Read = TypeVar("Read")


def torchvision_set(name: str, root: Path, size: int | None, channels: int | None) -> Task:
    """Load the torchvision data set `name`, which has a training and a test split, from `root`.

    Raises UsageError for an unknown name, RefusedInput for files that cannot be read.
    """
    kind = _reader(name)
    _refuse_bombs(root)
    with watching.below(root):
        return _task(kind, root, size, channels)


def _task(kind: Any, root: Path, size: int | None, channels: int | None) -> Task:
    sets = [_on_disk(kind, root, split) for split in ("train", "test")]
    items = [(s, i) for s in sets for i in range(len(s))]
    labels = np.empty(len(items), np.int64)
    title = f"torchvision's {kind.__name__} under {shown(root)}"

    def opened(i: int) -> Image:
        data, k = items[i]
        image, labels[i] = _attempt(f"{title}: image {k}", lambda: data[k])
        return _attempt(f"{title}: image {k}", lambda: plain(image, channels))

    images = decoded(len(items), opened, lambda i: f"image {items[i][1]}", size, channels=channels)
    if labels.min() < 0:
        raise RefusedInput(f"{title} has a label below 0; download the data set again")
    named = tuple(map(str, getattr(sets[0], "classes", ())))
    classes = named if len(named) > labels.max() else tuple(map(str, range(labels.max() + 1)))
    flip = kind.__name__ not in ONE_HANDED
    return assembled(kind.__name__, classes, images, labels, [len(s) for s in sets], flip=flip)


def _reader(name: str) -> Any:  # torchvision's classes share no type with a length
    """Find torchvision's class for a data set with a training and a test split."""
    from torchvision import datasets

    found = {}
    for title in datasets.__all__:
        parameters = inspect.signature(getattr(datasets, title)).parameters.values()
        needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        if needed == ["root"] and {"train", "split"} & {p.name for p in parameters}:
            found[title.lower()] = title
    if name.lower() not in found:
        near = nearest(name, found.values(), most=3, otherwise="use a folder of images", always=True)
        raise UsageError(f"torchvision has no labelled data set {name!r} that we can read; {near}")
    return getattr(datasets, found[name.lower()])


def _on_disk(kind: Any, root: Path, split: str) -> Any:
    """Open one split without ever downloading it."""
    from PIL.Image import Image

    choice = {"train": split == "train"} if "train" in inspect.signature(kind).parameters else {"split": split}
    finds = f"torchvision's {kind.__name__} finds no {split} split under {shown(root)}"
    data, item = _attempt(finds, lambda: _with_first(kind(root, **choice)))
    if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], Image) and isinstance(item[1], int)):
        raise RefusedInput(
            f"torchvision's {kind.__name__} does not give an image and one label; use a folder of images"
        )
    return data


def _with_first(data: Any) -> tuple[Any, Any]:
    return data, data[0]


def _attempt(what: str, reader: Callable[[], Read]) -> Read:
    """Run torchvision's code on untrusted files.

    Raises RefusedInput for any error.
    """
    from PIL import EpsImagePlugin

    EpsImagePlugin.gs_binary = False  # torchvision lets Pillow open any format; no picture may start Ghostscript
    try:
        return reader()
    except Exception as e:  # readers raise many kinds of errors on untrusted bytes; the files are at fault
        said = " ".join(str(e).split())[:300] or type(e).__name__
        raise RefusedInput(f"{what} ({said}); put it there first: this tool downloads nothing") from e


def _refuse_bombs(root: Path) -> None:
    """Refuse a compressed USPS file that unpacks to far more than USPS holds: torchvision unpacks all of it at once."""
    for name in ("usps.bz2", "usps.t.bz2"):
        path = root / name
        if path.is_file() and not _unpacks(path):
            raise RefusedInput(
                f"{shown(path)} unpacks to more than {units.size(MOST_UNPACKED, 0)}; download the data set again"
            )


def _unpacks(path: Path) -> bool:
    """Whether a compressed file unpacks to less than the limit; its reader refuses a damaged one later."""
    read = 0
    try:
        with bz2.open(path) as file:
            while part := file.read(2**20):
                read += len(part)
                if read > MOST_UNPACKED:
                    return False
    except (OSError, EOFError):
        pass
    return True
