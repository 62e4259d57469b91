"""The user's cache: answers, students, data and teachers, each under the digest of all that determines it."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import sys
import time
import weakref
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import ValidationError

from audit.execution.cells import Cell, Result
from reports.printable import readable
from reports.record import write_whole
from teachers.errors import RefusedInput
from teachers.places import place
from teachers.stored import Stored
from teachers.surface import Answers, Kind
from teachers.task import Augment, Images, Pool

Rows = NDArray[np.int64]
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)  # what reading a missing or cut file raises


def default_cache() -> Path:
    """Return $DISTILL_AUDIT_CACHE, or the folder that this system keeps caches in."""
    if named := os.environ.get("DISTILL_AUDIT_CACHE"):
        return place(named)
    if sys.platform == "darwin":
        return place("~/Library/Caches/distill-audit")
    return place(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "distill-audit"


def hold(root: Path, *, alone: bool = False) -> int:
    """Share a cache, or have it alone, until the descriptor that is returned is closed.

    Raises BlockingIOError where it cannot be had alone; waits where somebody else has it alone.
    """
    held = os.open(root / ".writable", os.O_RDWR | os.O_CREAT, 0o666)
    if sys.platform != "win32":  # there, nothing tells who uses a cache
        import fcntl

        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        except OSError:
            os.close(held)
            raise
    return held


def used(path: Path) -> None:
    """Mark an entry as used now: what was not used for long is pruned first."""
    with suppress(OSError):
        os.utime(path)


class AnswerStore:
    """A teacher's answers, block by block: float32 log-probabilities (N, K) or int64 labels (N,), and which are there.

    Input gradients (N, C, H, W) lie beside them where the surface gives them.

    Any process may read at any time; writers take turns. A damaged file is as good as none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, block: str, rows: Rows) -> tuple[Answers | None, Rows]:
        """Return what is stored of a block, with a row for each of its images, and which of `rows` are missing."""
        try:
            with self._path(block).open("rb") as f, np.load(f, allow_pickle=False) as held:
                there, values = held["there"], held["values"]
                gradients = torch.from_numpy(held["gradients"]) if "gradients" in held else None
        except DAMAGED:
            return None, rows
        used(self._path(block))
        kind: Kind = "label" if values.ndim == 1 else "probs" if gradients is None else "gradients"
        return Answers(kind, torch.from_numpy(values), gradients), rows[~there[rows]]

    def add(self, block: str, size: int, rows: Rows, answers: Answers) -> None:
        """Add answers about some images of a block of `size`, whole or not at all."""
        new = {"values": answers.values.numpy()}
        if answers.gradients is not None:
            new["gradients"] = answers.gradients.numpy()
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            stored, missing = self.load(block, np.arange(size))
            there = np.ones(size, bool)
            there[missing] = False
            there[rows] = True
            held = {name: np.zeros((size, *a.shape[1:]), a.dtype) for name, a in new.items()}
            if stored is not None:
                held = {name: getattr(stored, name).numpy() for name in new}
            for name, array in new.items():
                held[name][rows] = array
            content = io.BytesIO()
            np.savez(content, allow_pickle=False, there=there, **held)
            write_whole(self._path(block), content.getvalue())

    def _path(self, block: str) -> Path:
        return self.folder / f"{block}.npz"


class Cache:
    """Everything that outlives an audit; held while this object lives, so that nothing is pruned under it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        if readable(str(root)) != str(root):
            raise RefusedInput(f"the cache {root} has a name that is no UTF-8; give another with --cache")
        try:
            root.mkdir(parents=True, exist_ok=True)
            held = hold(root)
        except OSError as e:
            raise RefusedInput(f"the cache {root} cannot be written ({e.strerror}); give another with --cache") from e
        weakref.finalize(self, os.close, held)

    def answers(self, teacher: str, surface: str) -> AnswerStore:
        """Return the answers of a teacher through a surface."""
        return AnswerStore(self.root / "answers" / teacher[:32] / surface.replace(":", "-"))

    def result(self, cell: Cell) -> Result | None:
        """Return a finished cell, or None; a damaged file, or another cell's, counts as not finished."""
        path = self._cell(cell.key)
        try:
            found = Result.model_validate_json(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValidationError, UnicodeDecodeError):
            return None
        used(path)
        return found if found.cell.key == cell.key else None

    def finish(self, result: Result) -> None:
        """Store a finished cell whole."""
        write_whole(self._cell(result.cell.key), result.model_dump_json().encode())

    def forget(self, cell: Cell) -> None:
        """Remove a finished cell, so that it is trained again."""
        self._cell(cell.key).unlink(missing_ok=True)

    def _cell(self, key: str) -> Path:
        return self.root / "cells" / key[:2] / f"{key}.json"

    def pool(self, pool: Pool) -> Path:
        """Write a pool where workers can read it, and return its path."""
        path = self.root / "pools" / f"{pool.digest}.npz"
        if not path.exists():
            content = io.BytesIO()
            labels = np.zeros(0, np.int64) if pool.labels is None else pool.labels
            augment = np.array([pool.augment.pad, pool.augment.flip], np.int64)
            if isinstance(pool.images, Stored):  # the file is in the cache as it is
                where = np.frombuffer(os.fsencode(pool.images.path.resolve()), np.uint8)
                np.savez(content, path=where, rows=pool.images.rows, augment=augment, labels=labels)
            else:
                np.savez(content, images=pool.images, augment=augment, labels=labels)
            write_whole(path, content.getvalue())
        used(path)
        return path

    def teacher(self, lesson: str) -> Path:
        """Return where the teacher of a lesson is kept."""
        return self.root / "teachers" / f"{hashlib.sha256(lesson.encode()).hexdigest()[:32]}.safetensors"

    def looks(self, question: str) -> Path:
        """Return where the looks at a question are kept."""
        return self.root / "looks" / f"{question}.json"


class Unfinished:
    """An unfinished training, kept in a file now and then; a damaged file is as good as none."""

    def __init__(self, path: Path, every: float = 60.0) -> None:
        """`every` is in seconds."""
        self.path, self.every = path, every
        self._kept = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._kept >= self.every

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state whole."""
        content = io.BytesIO()
        torch.save(state, content)
        write_whole(self.path, content.getvalue())
        self._kept = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return the state that was kept, if any."""
        try:
            with self.path.open("rb") as f:
                state: dict[str, Any] = torch.load(f, map_location="cpu", weights_only=True)
        except (*DAMAGED, RuntimeError, pickle.UnpicklingError):
            return None
        return state


def read_pool(path: Path) -> Pool:
    """Read a pool that `Cache.pool` wrote."""
    with np.load(path, allow_pickle=False) as held:
        pad, flip = held["augment"].tolist()
        labels = held["labels"]
        stored = Stored(Path(os.fsdecode(held["path"].tobytes())), held["rows"]) if "path" in held else None
        images = held["images"] if stored is None else cast(Images, stored)
        return Pool(images, labels if len(labels) == len(images) else None, Augment(int(pad), bool(flip)))
