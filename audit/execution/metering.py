"""The only path from an attack to its teacher. It runs and counts queries in the parent, out of the attack's reach."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from audit.plan.cells import BlockUse
from reports.record import PackedArray
from teachers.http.remote import RemoteBox
from teachers.oracle import CHUNK, Ask, Oracle
from teachers.storage.mapped import AnswerFile, AnswerFiles
from teachers.storage.store import AnswerStore, Rows
from teachers.surface import Answers, Surface, concatenate
from teachers.task import Pool
from teachers.views import Viewer, ViewSet

BLOCK = 4096  # images whose answers are stored and sent together
MADE = "x-"  # prefix of the names of blocks whose images are not views of a pool


class Block(NamedTuple):
    """A group of images whose answers are stored together."""

    name: str
    size: int


Pixels = Callable[[Rows], Tensor]  # rows of a block to float images (n, C, H, W) in [0, 1], made when needed


@dataclass(frozen=True)
class CachedTeacher:
    """Answers of one teacher behind one surface: read from the store, or queried where they are missing."""

    store: AnswerStore
    ask: Ask
    at_once: int = CHUNK  # images per query
    portable: bool = False  # whether a copy of `ask` on another machine gives the same answers

    def complete(self, block: Block, rows: Rows, pixels: Pixels) -> None:
        """Query and store the answers that are missing for some rows of a block."""
        self._fetch(block, self.store.load(block.name, rows)[1], pixels)

    def _fetch(self, block: Block, missing: Rows, pixels: Pixels) -> None:
        """Query rows of a block in chunks, and store the answers.

        Answers of a remote teacher may cost money: each is stored as it arrives, so that nothing is queried twice after
        an interruption.
        """
        if not len(missing):
            return
        chunks = [missing[at : at + self.at_once] for at in range(0, len(missing), self.at_once)]
        if isinstance(self.ask, RemoteBox):
            for chunk in chunks:
                for part, answers in self.ask.batches(pixels(chunk)):
                    self.store.add(block.name, block.size, chunk[part], answers)
        else:
            self.store.add(block.name, block.size, missing, concatenate([self.ask(pixels(c)) for c in chunks]))

    def answers(self, block: Block, rows: Rows, pixels: Pixels) -> Answers:
        """Return the answers for some rows of a block."""
        stored, missing = self.store.load(block.name, rows)
        if len(missing):
            self._fetch(block, missing, pixels)
            stored, missing = self.store.load(block.name, rows)
        if stored is None or len(missing):
            raise RuntimeError(f"{len(rows)} requested answers are missing from the store: {block.name}")
        return stored if np.array_equal(rows, np.arange(len(stored))) else stored[torch.from_numpy(rows)]


class MeteredOracle:
    """One cell's path to its teacher: it charges every image before the query, and records which answers the cell uses.

    `held`: the pools that the cell's attack holds, by digest; `files`: those of a run's questions; `owner`: the plug-in
    distribution whose code asks, empty for built-in code.
    """

    def __init__(
        self,
        cached_teacher: CachedTeacher,
        surface: Surface,
        held: Mapping[str, Pool],
        budget: int | None,
        files: AnswerFiles,
        owner: str = "",
    ) -> None:
        shape = next(iter(held.values())).shape
        self.teacher, self._held, self.files, self._owner = cached_teacher, held, files, owner
        self._oracle = Oracle(self._made, surface=surface, shape=shape, budget=budget, estimate_by=self._guessed)
        self._rests: dict[str, np.ndarray] = {}
        self._estimates: set[str] = set()  # blocks that only served to estimate gradients
        self.estimated = 0  # charged images that served to estimate gradients

    @property
    def charged(self) -> int:
        """Number of charged images."""
        return self._oracle.charged

    @property
    def rests(self) -> tuple[BlockUse, ...]:
        """The blocks that the cell uses, whether queried now or already stored."""
        return tuple(
            BlockUse(
                block=name,
                images=len(rows),
                rows=None if rows.all() else PackedArray.of(rows),
                estimate=name in self._estimates,
            )
            for name, rows in sorted(self._rests.items())
        )

    def views(self, pool: str, sets: Sequence[ViewSet], index: Rows) -> Answers:
        """Return the answers for all views of some images of a held pool; raise what `file` raises."""
        return self.file(pool, sets, index).answers()

    def file(self, pool: str, sets: Sequence[ViewSet], index: Rows) -> AnswerFile:
        """Return the file of the answers for all views of some images of a held pool, set by set, view-major.

        It is written once for all students that ask the same. Code of another owner gets a file of its own, since who
        has a file open may find a way to write to it.

        Raises BudgetExceeded before any query, ValueError for indices that are not strictly increasing or not in the
        pool, PermissionError for a pool that is not held.
        """
        if pool not in self._held:
            raise PermissionError("the attack does not hold these images")
        images = self._held[pool]
        if len(index) and (index[0] < 0 or index[-1] >= len(images) or not (np.diff(index) > 0).all()):
            raise ValueError("indices must be strictly increasing and lie in the pool")
        if not len(index):
            raise ValueError("the query has no images")
        count = sum(one.count for one in sets) * len(index)
        self._oracle.charge(count)
        digest = hashlib.sha256(index.tobytes()).digest()
        question = self._owner, self.teacher.store.folder, pool, tuple(sets), digest
        asked = (block for one in sets for block in blocks(images, one, index))
        file = self.files.joined(question, count, (self.teacher.answers(*block) for block in asked))
        for one in sets:
            for block, rows, _ in blocks(images, one, index):
                self._use(block, rows)
        return file

    def images(self, images: Tensor, estimate: bool = False) -> Answers:
        """Return the answers for images that are not views of a pool; they are stored by the images' content.

        `estimate`: the attack says that they serve to estimate a gradient, not to train its student. Raises what
        `Oracle` raises.
        """
        return (self._oracle.estimate if estimate else self._oracle)(images)

    def _made(self, images: Tensor) -> Answers:
        name = _named(images)
        self._estimates.discard(name)
        return self._about(name, images)

    def _guessed(self, images: Tensor) -> Answers:
        name = _named(images)
        self.estimated += len(images)
        if name not in self._rests:
            self._estimates.add(name)
        return self._about(name, images)

    def _about(self, name: str, images: Tensor) -> Answers:
        return self._rest(Block(name, len(images)), np.arange(len(images)), lambda rows: images[torch.from_numpy(rows)])

    def _use(self, block: Block, rows: Rows) -> None:
        self._rests.setdefault(block.name, np.zeros(block.size, bool))[rows] = True

    def _rest(self, block: Block, rows: Rows, pixels: Pixels) -> Answers:
        self._use(block, rows)
        return self.teacher.answers(block, rows, pixels)


def _named(images: Tensor) -> str:
    return f"{MADE}{hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()[:48]}"


def blocks(pool: Pool, views: ViewSet, index: Rows) -> Iterator[tuple[Block, Rows, Pixels]]:
    """Iterate over the views of some images, view-major: each block, its rows, and a function for their pixels."""
    viewer = cache(lambda: Viewer(pool, views))  # built only if some answer is not stored yet
    for view in range(views.count):
        for start in range(0, len(pool), BLOCK):
            size = min(BLOCK, len(pool) - start)
            images = index[(index >= start) & (index < start + size)]

            def pixels(rows: Rows, start: int = start, view: int = view) -> Tensor:
                at = torch.from_numpy(start + rows)
                return viewer()(at, torch.full_like(at, view))

            if len(images):
                name = f"{pool.pixels[:32]}-{views.kind}-{view}-{start}"
                yield Block(name, size), images - start, pixels
