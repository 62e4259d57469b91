"""Store answers, image pools and teachers on disk, each under the digest of everything that determines it."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_path

from teachers.data.stored import StoredImages
from teachers.errors import RefusedInput
from teachers.files import shown
from teachers.notes import Note, silent
from teachers.places import place
from teachers.storage import parsers
from teachers.storage.entries import Content, DamagedEntry, Entries, opened, used
from teachers.storage.mapped import AnswerFiles
from teachers.storage.parsers import Block
from teachers.surface import Answers
from teachers.task import Pool

Rows = NDArray[np.int64]


def default_cache() -> Path:
    """Return $DISTILL_AUDIT_CACHE, or the folder where this system keeps caches."""
    return place(os.environ.get("DISTILL_AUDIT_CACHE") or user_cache_path("distill-audit"))


def hold(root: Path, *, alone: bool = False) -> int:
    """Lock a cache, shared or (`alone`) exclusively, until the returned file descriptor is closed.

    Raises BlockingIOError if others use a cache that is wanted exclusively; waits while another process has it so.
    """
    held = os.open(root / ".writable", os.O_RDWR | os.O_CREAT, 0o666)
    if sys.platform != "win32":  # Windows has no such lock
        import fcntl

        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        except OSError:
            os.close(held)
            raise
    return held


class AnswerStore:
    """A teacher's answers in blocks: float32 log-probabilities (N, K) or int64 labels (N,), and which images have one.

    Input gradients (N, C, H, W) are stored with them if the surface gives any.

    Any process may read at any time; writers take turns. A damaged file is moved aside and treated as missing.
    """

    def __init__(
        self, folder: Path, entries: Entries | None = None, classes: int | None = None, price: float | None = None
    ) -> None:
        """`price` per image: the cost is noted before the images of a damaged block are asked about again."""
        self.folder, self._entries = folder, entries or Entries(folder)
        self._classes, self._price = classes, price

    def load(self, block: str, rows: Rows) -> tuple[Answers | None, Rows]:
        """Return a block's stored answers, one row per image of the block, and which of `rows` are missing."""
        cost = "" if self._price is None else f", {self._price * len(rows):,.2f} to pay"
        held = self._read(block, int(rows.max(initial=-1)) + 1, f"{len(rows):,} images are queried again{cost}")
        return (None, rows) if held is None else (held.answers, rows[~held.there[rows]])

    def add(self, block: str, size: int, rows: Rows, answers: Answers) -> None:
        """Add answers about some images (`rows`) of a block of `size` images; all are stored or none."""
        new = {"values": answers.values.numpy()}
        if answers.gradients is not None:
            new["gradients"] = answers.gradients.numpy()
        self._entries.make_room(self._name(block))
        with self._entries.lock(self.folder):
            stored = self._read(block, size, "its images are queried again", new)
            there = np.zeros(size, bool)
            held = {name: np.zeros((size, *a.shape[1:]), a.dtype) for name, a in new.items()}
            if stored is not None:
                there, held = stored.there, stored.held
            there[rows] = True
            for name, array in new.items():
                held[name][rows] = array
            content = io.BytesIO()
            np.savez(content, allow_pickle=False, there=there, **held)
            self._entries.write(self._name(block), content.getvalue())

    def _read(self, block: str, size: int, again: str, like: Mapping[str, NDArray[Any]] | None = None) -> Block | None:
        """Return a block of at least `size` images whose answers have the form of `like`."""

        def parse(content: Content) -> Block:
            found = parsers.block(content, self.folder.name, self._classes)
            if len(found.there) < size:
                raise DamagedEntry(f"holds {len(found.there)} images in place of {size}")
            if like is not None and parsers.form(found.held) != parsers.form(like):
                raise DamagedEntry("holds other answers than the teacher gives now")
            return found

        return self._entries.read(self._name(block), parse, again)

    def _name(self, block: str) -> str:
        return self._path(block).relative_to(self._entries.root).as_posix()

    def _path(self, block: str) -> Path:
        return self.folder / f"{block}.npz"


class Store:
    """Answers, pools and teachers on disk; while this object lives, a lock keeps others from pruning them.

    `note` is called for each damaged entry; `price` is the cost of one image, if the teacher charges.
    """

    def __init__(self, root: Path, note: Note = silent, price: float | None = None) -> None:
        self.root, self._price = root, price
        self.entries = Entries(root, note)
        self.files = AnswerFiles(self.entries)
        self._whole: set[str] = set()  # names of pools that were checked
        if shown(root) != str(root):
            raise RefusedInput(f"the cache {root} has a name that is not UTF-8; give another with --cache")
        try:
            root.mkdir(parents=True, exist_ok=True)
            held = hold(root)
        except OSError as e:
            raise RefusedInput(f"the cache {root} cannot be written ({e.strerror}); give another with --cache") from e
        weakref.finalize(self, os.close, held)

    def answers(self, teacher: str, surface: str, classes: int | None = None, *, metered: bool = False) -> AnswerStore:
        """Return the store of a teacher's answers through a surface; `metered`: the teacher may charge for each."""
        folder = self.root / "answers" / teacher[:32] / surface.replace(":", "-")
        return AnswerStore(folder, self.entries, classes, self._price if metered else None)

    def pool(self, pool: Pool) -> Path:
        """Write a pool where workers can read it, and return its path; a file already there is checked once."""
        name = f"pools/{pool.digest}.npz"
        path = self.entries.path(name)
        if name not in self._whole or not path.exists():
            laid_out = _laid_out(pool) if isinstance(pool.images, StoredImages) else None
            if not self.entries.read(name, lambda content: _holds(content, pool, laid_out), "it is written again"):
                self.entries.write(name, laid_out or _laid_out(pool))
            self._whole.add(name)
        used(path)
        return path

    def teacher(self, teacher_recipe: str) -> Path:
        """Return the path of the teacher that a recipe's key names."""
        return self.root / "teachers" / f"{hashlib.sha256(teacher_recipe.encode()).hexdigest()[:32]}.safetensors"


def _laid_out(pool: Pool) -> bytes:
    content = io.BytesIO()
    labels = np.zeros(0, np.int64) if pool.labels is None else pool.labels
    augment = np.array([pool.augment.pad, pool.augment.flip], np.int64)
    if isinstance(pool.images, StoredImages):  # the cache already holds the image file
        where = np.frombuffer(str(pool.images.path.resolve()).encode(), np.uint8)
        np.savez(content, path=where, rows=pool.images.rows, augment=augment, labels=labels)
    else:
        np.savez(content, images=pool.images, augment=augment, labels=labels)
    return content.getvalue()


def _holds(content: Content, pool: Pool, laid_out: bytes | None) -> bool:
    """Whether an entry holds a pool; its path to an image file is outdated if the cache was moved.

    Raises DamagedEntry if it has no seal and holds something else.
    """
    same = (
        content.file.read() == laid_out if laid_out else content.sealed or parsers.pool(content).digest == pool.digest
    )
    if not same and not content.sealed:
        raise DamagedEntry("holds other images than its name says")
    return same


class TrainingCheckpoint:
    """A file that stores an unfinished training at intervals; if damaged it is moved aside and treated as missing."""

    def __init__(self, path: Path, every: float = 60.0, entries: Entries | None = None) -> None:
        """`every`: seconds between two saves."""
        self.path, self.every = path, every
        self._entries = entries or Entries(path.parent)
        self._kept = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._kept >= self.every

    def save(self, state: dict[str, Any]) -> None:
        """Write a state, whole or not at all."""
        content = io.BytesIO()
        torch.save(state, content)
        self._entries.write(self._name, content.getvalue())
        self._kept = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, or None."""
        return self._entries.read(self._name, parsers.state, "training starts again from the beginning")

    @property
    def _name(self) -> str:
        return self.path.relative_to(self._entries.root).as_posix()


def read_pool(path: Path) -> Pool:
    """Read a pool that `Store.pool` wrote.

    Raises RefusedInput if it was damaged since.
    """
    try:
        with opened(path, f"{path.parent.name}/{path.name}") as content:
            return parsers.pool(content)
    except (FileNotFoundError, DamagedEntry) as e:
        why = e if isinstance(e, DamagedEntry) else "is missing"
        raise RefusedInput(f"{path} {why}; run the same command again, which rewrites it") from e
