"""Load a data set by its name on the command line: embedded, a folder of images, or one torchvision finds on disk."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from teachers.errors import RefusedInput, UsageError
from teachers.folders import assembled, decoded, image_folder, plain
from teachers.glyphs import glyphs
from teachers.places import place
from teachers.task import Augment, Pool, Task

if TYPE_CHECKING:
    from PIL.Image import Image

# A mirrored digit, letter, text or road sign is another class or none.
ONE_HANDED = frozenset({"MNIST", "KMNIST", "QMNIST", "EMNIST", "USPS", "SVHN", "GTSRB", "RenderedSST2"})


def catalogue() -> dict[str, str]:
    """Name every form of `load`'s spec, with one line on each."""
    return {
        "glyphs": "62 characters in 20 fonts, 16x16 gray, noisy; 3,100 / 3,100 / 6,200 images (embedded, the default)",
        "digits": "scikit-learn's handwritten digits, 8x8 gray; 900 / 300 / 597 images (embedded)",
        "DIR": "a folder with train/<class>/* and test/<class>/*, and validation/<class>/* if you have one",
        "torchvision:NAME:ROOT": "a torchvision data set already under ROOT, for example torchvision:CIFAR10:~/data",
    }


def load(spec: str, cache: Path | None = None, size: int | None = None) -> Task:
    """Load the data set `spec`, one of `catalogue`'s forms.

    `cache` keeps a folder's decoded images for the next start. `size` (pixels) resizes the shorter side of pictures
    and crops the middle. Raises UsageError for an unknown name and RefusedInput for data that cannot be used.
    """
    if size is not None and size < 1:
        raise UsageError(f"--size must be at least 1 pixel, not {size}")
    embedded = {"glyphs": glyphs, "digits": _digits}
    if spec in embedded:
        if size is not None:
            raise UsageError(f"--size is for folders and torchvision; {spec} has one size only, leave --size out")
        return embedded[spec]()
    if spec.startswith("torchvision:"):
        return _torchvision(spec, size)
    root = place(spec)
    if root.is_dir():
        return image_folder(root, cache, size)
    if len(root.parts) > 1 or root.exists():
        raise RefusedInput(f"{spec} is not a folder; a data set is a folder with train/<class>/* and test/<class>/*")
    names = catalogue()
    raise UsageError(f"no data set or folder is called {spec!r}; {_closest(spec, names)}there are {', '.join(names)}")


def _closest(name: str, known_names: Iterable[str]) -> str:
    folded = {n.lower(): n for n in known_names}
    close = [folded[n] for n in difflib.get_close_matches(name.lower(), folded)]
    return f"did you mean {' or '.join(close)}? " if close else ""


def _digits() -> Task:
    from sklearn.datasets import load_digits

    data, labels = load_digits(return_X_y=True)
    images = ((data.astype(np.int64) * 255 + 8) // 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    order = np.random.default_rng(0).permutation(len(labels))
    place = np.empty(len(labels))  # of each image within its class, from 0 to 1
    for c in range(10):
        of_class = order[labels[order] == c]
        place[of_class] = np.arange(len(of_class)) / len(of_class)
    pool = Pool(images, labels.astype(np.int64), Augment(pad=1))
    parts = np.split(np.argsort(place, kind="stable"), [900, 1200])
    train, validation, test = (pool.take(np.sort(part)) for part in parts)
    return Task("digits", tuple("0123456789"), train, validation, test)


def _torchvision(spec: str, size: int | None) -> Task:
    _, name, root = [*spec.split(":", 2), "", ""][:3]
    if not name or not root:
        raise UsageError(f"{spec!r} must read torchvision:NAME:ROOT, for example torchvision:CIFAR10:~/data")
    kind = _reader(name)
    sets = [_on_disk(kind, place(root), split) for split in ("train", "test")]
    items = [(s, i) for s in sets for i in range(len(s))]
    labels = np.empty(len(items), np.int64)

    def opened(i: int) -> Image:
        data, k = items[i]
        image, labels[i] = data[k]
        return plain(image)

    images = decoded(len(items), opened, lambda i: f"image {items[i][1]}", size)
    named = tuple(map(str, getattr(sets[0], "classes", ())))
    classes = named if len(named) > labels.max() else tuple(map(str, range(labels.max() + 1)))
    flip = kind.__name__ not in ONE_HANDED
    return assembled(kind.__name__, classes, images, labels, [len(s) for s in sets], flip=flip)


def _reader(name: str) -> Any:  # torchvision's classes share no type that promises a length
    """Find torchvision's class for a data set with a training and a test split."""
    from torchvision import datasets

    found = {}
    for title in datasets.__all__:
        parameters = inspect.signature(getattr(datasets, title)).parameters.values()
        needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        if needed == ["root"] and {"train", "split"} & {p.name for p in parameters}:
            found[title.lower()] = title
    if name.lower() not in found:
        hint = _closest(name, found.values())
        raise UsageError(
            f"torchvision has no labelled data set {name!r} that we can read; {hint}or use a folder of images"
        )
    return getattr(datasets, found[name.lower()])


def _on_disk(kind: Any, root: Path, split: str) -> Any:
    """Open one split without ever downloading it."""
    from PIL.Image import Image

    choice = {"train": split == "train"} if "train" in inspect.signature(kind).parameters else {"split": split}
    try:
        data = kind(root, **choice)
        item = data[0]
    except (OSError, RuntimeError, ValueError, IndexError, ImportError) as error:
        said = f"torchvision's {kind.__name__} finds no {split} split under {root} ({error})"
        raise RefusedInput(f"{said}; put it there first, nothing is downloaded here") from error
    if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], Image) and isinstance(item[1], int)):
        raise RefusedInput(
            f"torchvision's {kind.__name__} does not give an image and one label; use a folder of images"
        )
    return data
