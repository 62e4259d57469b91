"""The data of an attacker (Pool) and of the auditor (Task)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from teachers.data.stored import chunks, taken
from teachers.errors import UsageError
from teachers.proportions import majority

Images = NDArray[np.uint8]  # (N, C, H, W)
Labels = NDArray[np.int64]  # (N,); UNLABELLED if the holder does not know the label

UNLABELLED = -1


@dataclass(frozen=True)
class Augment:
    """The changes that keep the class of an image of this task."""

    pad: int = 0  # pixels: shifts by up to `pad` in each direction
    flip: bool = False  # mirror left and right


@dataclass(frozen=True)
class Pool:
    """Images as uint8, in memory or on disk (`data.stored.StoredImages`), and the labels that their holder knows."""

    images: Images
    labels: Labels | None = None
    augment: Augment = Augment()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        _, c, h, w = self.images.shape
        return c, h, w

    @cached_property
    def pixels(self) -> str:
        """SHA-256 of everything that determines a view: shape, pixels and augmentation, without labels."""
        h = hashlib.sha256(f"{self.images.shape} {self.augment}".encode())
        for part in chunks(self.images):
            h.update(part.data)
        return h.hexdigest()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape, pixels, labels and augmentation, as 64 hex digits."""
        h = hashlib.sha256(self.pixels.encode())
        if self.labels is not None:
            h.update(np.ascontiguousarray(self.labels.astype("<i8")).data)
        return h.hexdigest()

    @property
    def labelled(self) -> NDArray[np.int64]:
        """Indices of the images whose label is known."""
        if self.labels is None:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.labels != UNLABELLED)

    @property
    def every_label(self) -> NDArray[np.int64]:
        """The labels of all images, (N,), UNLABELLED where unknown."""
        return np.full(len(self), UNLABELLED) if self.labels is None else self.labels

    def take(self, index: NDArray[np.int64]) -> Pool:
        """Return the pool of the images at `index`."""
        return replace(
            self, images=taken(self.images, index), labels=None if self.labels is None else self.labels[index]
        )


@dataclass(frozen=True)
class Task:
    """A classification problem with its three splits; only the auditor holds validation and test."""

    name: str
    classes: tuple[str, ...]
    train: Pool
    validation: Pool
    test: Pool
    files: tuple[str, ...] = ()  # of the test images, CLASS/FILE, where each is a file
    structure: Mapping[str, Labels] = field(default_factory=dict)  # by name: groups of test images that the data know

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.train.shape

    @property
    def digest(self) -> str:
        parts = (*self.classes, self.train.digest, self.validation.digest, self.test.digest)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def majority(self) -> float:
        """The accuracy on the test split of always naming its largest class."""
        return majority(known(self.test))


def known(pool: Pool) -> Labels:
    """Return the labels of a pool; raise ValueError if any is missing."""
    if pool.labels is None or (pool.labels == UNLABELLED).any():
        raise ValueError("this pool has unlabelled images")
    return pool.labels


def stratified(labels: Labels, fraction: float, seed: int) -> NDArray[np.int64]:
    """Draw the indices of a fraction of each class (at least one image), sorted; the same seed gives the same ones."""
    if not 0 < fraction <= 1:
        raise UsageError(f"a fraction of the data must be above 0 and at most 1, not {fraction}")
    rng = np.random.default_rng(seed)
    kept = []
    for c in np.unique(labels):
        of_class = np.flatnonzero(labels == c)
        count = max(1, round(fraction * len(of_class)))
        kept.append(rng.permutation(of_class)[:count])
    return np.sort(np.concatenate(kept))


def few_shot(pool: Pool, fraction: float, seed: int = 0) -> Pool:
    """Keep a fraction of images *and* labels (the few-shot scenario of MCMI)."""
    return pool if fraction == 1 else pool.take(stratified(known(pool), fraction, seed))


def without(pool: Pool, classes: Sequence[int]) -> Pool:
    """Remove all images of some classes (the zero-shot scenario of MCMI)."""
    return pool.take(np.flatnonzero(~np.isin(known(pool), classes))) if len(classes) else pool


def few_labels(pool: Pool, fraction: float, seed: int = 0) -> Pool:
    """Keep all images but only a fraction of the labels."""
    if fraction == 1:
        return pool
    labels = known(pool)
    hidden = np.full_like(labels, UNLABELLED)
    kept = stratified(labels, fraction, seed)
    hidden[kept] = labels[kept]
    return replace(pool, labels=hidden)
