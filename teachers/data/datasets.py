"""Load a data set by its name on the command line: embedded, a folder of images, or one torchvision finds on disk."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np

from teachers.data.folders import image_folder
from teachers.data.glyphs import glyphs
from teachers.data.pixels import in_channels
from teachers.data.vision import torchvision_set
from teachers.errors import RefusedInput, UsageError
from teachers.files import shown
from teachers.names import nearest
from teachers.notes import Note, silent
from teachers.places import place
from teachers.task import Augment, Pool, Task

LARGEST = 2**14  # pixels per side, at most: such an image takes about a GiB of memory


def catalogue() -> dict[str, str]:
    """Return every form of `load`'s spec, with a line that describes it."""
    return {
        "glyphs": "62 characters in 20 fonts, 16x16 gray, noisy; 3,100 / 3,100 / 6,200 images (embedded, the default)",
        "digits": "scikit-learn's handwritten digits, 8x8 gray; 900 / 300 / 597 images (embedded)",
        "DIR": "a folder with train/<class>/* and test/<class>/*, and validation/<class>/* if you have one",
        "torchvision:NAME:ROOT": "a torchvision data set already under ROOT, for example torchvision:CIFAR10:~/data",
    }


def load(
    spec: str, cache: Path | None = None, size: int | None = None, channels: int | None = None, note: Note = silent
) -> Task:
    """Load the data set `spec`, one of `catalogue`'s forms.

    `cache` stores a folder's decoded images for the next start. `size` (pixels) resizes the shorter side of pictures
    and crops the middle. `channels` converts them to gray (1) or colour (3); `note` gets a line on which files of a
    folder are used. Raises UsageError for an unknown name and RefusedInput for data that cannot be used.
    """
    if size is not None and not 1 <= size <= LARGEST:
        raise UsageError(f"--size must be at least 1 pixel and at most {LARGEST}, not {size}")
    if spec in EMBEDDED:
        if size is not None:
            raise UsageError(f"--size is for folders and torchvision; {spec} has one size only, leave --size out")
        task = EMBEDDED[spec]()
        return task if channels in (None, task.shape[0]) else _read_as(task, channels)
    if spec.startswith("torchvision:"):
        return _torchvision(spec, size, channels)
    root = place(spec)
    if root.is_dir():
        return image_folder(root, cache, size, channels, note)
    if len(root.parts) > 1 or root.exists():
        raise RefusedInput(
            f"{shown(spec)} is not a folder; a data set is a folder with train/<class>/* and test/<class>/*"
        )
    near = nearest(spec, catalogue(), most=3, always=True)
    raise UsageError(f"no data set or folder is called {shown(spec)!r}; {near}")


def _read_as(task: Task, channels: int) -> Task:
    """Convert the images of a task in memory to gray (1) or to three channels."""
    pools = (task.train, task.validation, task.test)
    train, validation, test = (replace(pool, images=in_channels(pool.images, channels)) for pool in pools)
    return replace(task, train=train, validation=validation, test=test)


def _digits() -> Task:
    # The file that sklearn.datasets.load_digits reads, without sklearn's imports, which take longer than the rest.
    table = metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(table), delimiter=",", dtype=np.int64)
    data, labels = rows[:, :-1], rows[:, -1].copy()
    images = ((data * 255 + 8) // 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    order = np.random.default_rng(0).permutation(len(labels))
    place = np.empty(len(labels))  # the rank of each image within its class, from 0 to 1
    for c in range(10):
        of_class = order[labels[order] == c]
        place[of_class] = np.arange(len(of_class)) / len(of_class)
    pool = Pool(images, labels, Augment(pad=1))
    parts = np.split(np.argsort(place, kind="stable"), [900, 1200])
    train, validation, test = (pool.take(np.sort(part)) for part in parts)
    return Task("digits", tuple("0123456789"), train, validation, test)


def _torchvision(spec: str, size: int | None, channels: int | None) -> Task:
    _, name, root = [*spec.split(":", 2), "", ""][:3]
    if not name or not root:
        raise UsageError(f"{spec!r} must read torchvision:NAME:ROOT, for example torchvision:CIFAR10:~/data")
    return torchvision_set(name, place(root), size, channels)


EMBEDDED = {"glyphs": glyphs, "digits": _digits}
