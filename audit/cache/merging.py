"""Merge a checked entry of another machine into this cache."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock

from audit.cache import checking
from audit.cache.entries import Kind
from audit.cache.looks import Looks
from audit.cache.store import Cache
from teachers.storage.entries import opened
from teachers.storage.parsers import form
from teachers.storage.store import AnswerStore

Brought = Literal["new", "same", "other"]  # an entry: not here before, here already, here with different content


def merge(cache: Cache, kind: Kind, name: str, staged: Path) -> Brought:
    """Move an entry to its place unless it is here already."""
    target = cache.root / name
    if kind == "looks":
        return _add_looks(cache, target.stem, checking.looks(staged, name))
    parse = checking.parsing(kind, name)
    assert parse is not None
    cache.entries.make_room(name)
    with FileLock(target.with_suffix(".lock")) if kind == "teachers" else ExitStack():
        if cache.entries.read(name, parse, "the archive's entry replaces it") is None:
            cache.entries.take(name, staged)
            return "new"
    if kind == "answers" and target.suffix == ".npz":
        return _add_answers(cache, name, staged)
    return "same" if _told(kind, target, name) == _told(kind, staged, name) else "other"


def _add_looks(cache: Cache, question: str, seeds: tuple[int, ...]) -> Brought:
    before: tuple[int, ...] = ()
    looks = Looks(cache.entries)
    try:
        before = looks.at(question)
    except checking.DamagedEntry as e:
        looks.set_aside(question, f"{e}; the archive's looks replace it")
    looks.add(question, seeds)
    return "new" if looks.at(question) != before else "same"


def _told(kind: Kind, path: Path, name: str) -> object:
    """Return an entry's content without its training time, for comparison."""
    if kind == "students":
        return checking.student(path, name).model_copy(update={"seconds": 0, "step_seconds": 0})
    with opened(path, name) as content:
        return content.file.read()


def _add_answers(cache: Cache, name: str, staged: Path) -> Brought:
    """Add the answers that this cache's block lacks, if both blocks have the same form."""
    target = cache.root / name
    here, there = checking.block(target, name), checking.block(staged, name)
    if len(here.there) != len(there.there) or form(here.held) != form(there.held):
        return "other"
    new, both = np.flatnonzero(there.there & ~here.there), here.there & there.there
    if len(new):
        answers = there.answers[torch.from_numpy(new)]
        AnswerStore(target.parent, cache.entries).add(target.stem, len(there.there), new, answers)
        return "new"
    return "same" if all(np.array_equal(a[both], there.held[n][both]) for n, a in here.held.items()) else "other"
