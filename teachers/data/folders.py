"""Load a folder of images, and build a task from decoded images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from teachers import presence
from teachers.data import listings
from teachers.data.listings import Leftovers, Split
from teachers.data.pixels import in_channels, of_files
from teachers.data.stored import taken
from teachers.errors import RefusedInput
from teachers.files import shown
from teachers.notes import Note, silent
from teachers.task import Augment, Images, Labels, Pool, Task, known, stratified

HELD_OUT_FOLDERS = ("validation", "val")  # the first one present is used
MANY, HELD_OUT = 15_000, 3_000  # from a training split of MANY images, hold out at least HELD_OUT: fewer mislead tuning


def image_folder(
    root: Path, cache: Path | None = None, size: int | None = None, channels: int | None = None, note: Note = silent
) -> Task:
    """Load `root`/train/<class>/* and test/<class>/*; without validation/ or val/, hold training images out.

    `channels` (1 or 3) converts the images to what a network takes; `note` gets a line on files used and left out.
    """
    left = Leftovers()
    train = listings.split(root / "train", left)
    others = [listings.split(root / "test", left)]
    held_out = next((root / name for name in HELD_OUT_FOLDERS if (root / name).is_dir()), None)
    if held_out is not None:
        others.append(listings.split(held_out, left))
    splits = [train, *(other.arranged(train) for other in others)]
    left.beside(root, [split.folder.name for split in splits])
    files = [file for split in splits for of_class in split.classes.values() for file in of_class]
    if not files:
        raise RefusedInput(f"{shown(root / 'train')} holds no class folder; a data set needs at least 2 classes")
    labels = np.concatenate([split.labels for split in splits])
    images = of_files(files, size, channels, cache, note)
    task = assembled(
        shown(root.resolve().name), tuple(train.classes), images, labels, [len(s.labels) for s in splits], flip=True
    )
    note(_told(root, task, splits, left))
    return replace(task, files=splits[1].names)


def _told(root: Path, task: Task, splits: Sequence[Split], left: Leftovers) -> str:
    held_out = f"from {splits[2].folder.name}/" if len(splits) > 2 else "held out of train/"
    taken = (
        f"{shown(root)}: {len(task.classes)} classes; {len(task.train):,} images of train/ to train on, "
        f"{len(task.validation):,} {held_out} for validation, {len(task.test):,} of test/ for the test"
    )
    return f"{taken}; {left}" if left else taken


def loose_images(root: Path, shape: tuple[int, int, int], cache: Path | None = None, note: Note = silent) -> Images:
    """Load every image under `root`, in sorted order, resized and cropped to (C, H, W): gray if C is 1, else colour."""
    presence.images(root)
    left = Leftovers()
    files = listings.everything(root, left)
    if not files:
        raise RefusedInput(f"{shown(root)} holds no image ({listings.NAMED}); give a folder of images")
    channels, height, width = shape
    images = np.asarray(of_files(files, max(height, width), None, cache, note))  # square images
    note(f"{shown(root)}: {len(files):,} surrogate images" + (f"; {left}" if left else ""))
    top, across = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return in_channels(images[:, :, top : top + height, across : across + width], channels)


def assembled(
    name: str, classes: tuple[str, ...], images: Images, labels: Labels, counts: list[int], *, flip: bool
) -> Task:
    """Build a task from images ordered training, test, validation; without the last, hold out training images."""
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
    # Each class is rounded on its own: half an image more per class guarantees at least HELD_OUT.
    wanted = (HELD_OUT + len(classes) / 2) / len(train) if len(train) >= MANY else 0
    chosen = stratified(labels, max(0.1, wanted), seed=0)
    return train.take(np.setdiff1d(np.arange(len(train)), chosen)), train.take(chosen)
