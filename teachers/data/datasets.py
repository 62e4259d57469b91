"""Load a data set by its name on the command line: embedded, a folder of images, or one torchvision finds on disk."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np

from teachers.data.catalogue import folder
from teachers.data.folders import image_folder
from teachers.data.glyphs import glyphs
from teachers.data.pixels import in_channels
from teachers.data.vision import torchvision_set
from teachers.errors import UsageError
from teachers.notes import Note, silent
from teachers.places import place
from teachers.task import Augment, Pool, Task

LARGEST = 2**14  # pixels per side, at most: such an image takes about a GiB of memory


def load(
    spec: str, cache: Path | None = None, size: int | None = None, channels: int | None = None, note: Note = silent
) -> Task:
    """Load the data set `spec`, in one of the forms of CATALOGUE.

    `cache` stores a folder's decoded images for the next start. `size` (pixels) resizes the shorter side of pictures
    and crops the middle. `channels` converts them to gray (1) or colour (3); `note` gets a line on which files of a
    folder are used. Raises UsageError for an unknown name and RefusedInput for data that cannot be used.
    """
    if size is not None and not 1 <= size <= LARGEST:
        raise UsageError(f"--size must be at least 1 pixel and at most {LARGEST}, not {size}")
    if spec in LOADERS:
        if size is not None:
            raise UsageError(f"--size is for folders and torchvision; {spec} has one size only, leave --size out")
        task = LOADERS[spec]()
        return task if channels in (None, task.shape[0]) else _read_as(task, channels)
    root = folder(spec)
    return _torchvision(spec, size, channels) if root is None else image_folder(root, cache, size, channels, note)


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


LOADERS = {"glyphs": glyphs, "digits": _digits}
