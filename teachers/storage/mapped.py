"""Answers in files without a name: many students read one copy, from disk, and hold only what they read."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Hashable, Iterable
from typing import IO

import numpy as np
import torch
from torch import Tensor

from teachers.processes import limits
from teachers.processes.messages import Message
from teachers.storage.entries import Entries
from teachers.surface import Answers, Kind

MOST = 32  # files held at once
ROOM = 2**34  # bytes of all files together, unless one alone is larger
PAGE = 2**12  # gradients begin at a multiple of it


class Form(Message):
    """The kind and the shapes of the answers in a file: all values, then, on a page of their own, all gradients."""

    kind: Kind
    values: list[int]
    gradients: list[int] | None

    @classmethod
    def of(cls, answers: Answers, count: int) -> Form:
        """Return the form of `count` answers like these."""
        gradients = None if answers.gradients is None else [count, *answers.gradients.shape[1:]]
        return cls(kind=answers.kind, values=[count, *answers.values.shape[1:]], gradients=gradients)

    @property
    def begin(self) -> int:
        """The place of the gradients in the file."""
        size = math.prod(self.values) * (8 if self.kind == "label" else 4)
        return size if self.gradients is None else -(-size // PAGE) * PAGE

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self.begin + 4 * math.prod(self.gradients or (0,))

    def answers(self, file: int) -> Answers:
        """Map the answers in an open file; what is written to them stays in this process."""
        held = memoryview(limits.private(file, self.size))
        values = np.frombuffer(held, np.int64 if self.kind == "label" else np.float32, math.prod(self.values))
        gradients = None
        if self.gradients is not None:
            gradients = np.frombuffer(held, np.float32, math.prod(self.gradients), self.begin).reshape(self.gradients)
        return Answers(
            self.kind,
            torch.from_numpy(values.reshape(self.values)),
            None if gradients is None else torch.from_numpy(gradients),
        )


class AnswerFile:
    """A file of answers, open only for reading; its disk space is free again when nobody has it open or mapped."""

    def __init__(self, handle: int, form: Form) -> None:
        self.handle, self.form = handle, form
        weakref.finalize(self, os.close, handle)

    def answers(self) -> Answers:
        """Map the answers."""
        return self.form.answers(self.handle)


class AnswerFiles:
    """Files that each hold all answers to one question, for every student that asks it again.

    They take disk space beside the blocks that they are joined from: up to ROOM bytes, or one larger file. The one used
    longest ago is dropped first. A crash leaves nothing behind, because they have no name.
    """

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._held: dict[Hashable, AnswerFile] = {}  # the one used last comes last

    @property
    def room(self) -> int:
        """Bytes that a file may take: those free on the cache's disk, and those of files that can be dropped."""
        return self._free + self._taken

    def joined(self, question: Hashable, count: int, parts: Iterable[Answers]) -> AnswerFile:
        """Return the file of a question's `count` answers; `parts` of them are read only if there is none yet.

        Raises RefusedInput if the disk is full.
        """
        file = self._held.pop(question, None) or self._written(count, parts)
        self._held[question] = file
        return file

    def _written(self, count: int, parts: Iterable[Answers]) -> AnswerFile:
        with self._entries.writing():
            file, handle = _nameless(self._entries)
        form, at = None, 0
        try:
            with file:
                for part in parts:
                    if form is None:
                        form = Form.of(part, count)
                        self._drop(form.size)
                    if Form.of(part, count) != form:
                        raise ValueError("answers of several forms")
                    with self._entries.writing():
                        _put(file, at, part.values)
                        if part.gradients is not None:
                            _put(file, at, part.gradients, form.begin)
                    at += len(part)
                with self._entries.writing():
                    file.flush()
            if form is None or at != count:
                raise ValueError(f"{at} answers in place of {count}")
        except BaseException:
            os.close(handle)
            raise
        return AnswerFile(handle, form)

    def _drop(self, size: int) -> None:
        """Drop files until there is room for one of `size` bytes more."""
        while self._held and (len(self._held) >= MOST or self._taken + size > ROOM or self._free < size):
            del self._held[next(iter(self._held))]

    @property
    def _taken(self) -> int:
        return sum(file.form.size for file in self._held.values())

    @property
    def _free(self) -> int:
        return shutil.disk_usage(self._entries.root).free


def _nameless(entries: Entries) -> tuple[IO[bytes], int]:
    """Create a file on the cache's disk and remove its name; return it for writing, and a descriptor for reading only.

    Never in memory, as `/dev/shm` or memfd would be.
    """
    entries.root.mkdir(parents=True, exist_ok=True)
    handle, path = tempfile.mkstemp(prefix=".answers-", dir=entries.root)
    try:
        return os.fdopen(handle, "wb"), os.open(path, os.O_RDONLY)
    finally:
        os.unlink(path)


def _put(file: IO[bytes], at: int, rows: Tensor, begin: int = 0) -> None:
    array = np.ascontiguousarray(rows.numpy())
    file.seek(begin + at * math.prod(array.shape[1:]) * array.itemsize)
    file.write(array.data)
