"""A teacher behind a URL, as an audit asks it: no image is paid for twice, and what its numbers are is remembered."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import torch
from torch import Tensor

from teachers.errors import UsageError
from teachers.http.address import USUAL, Service
from teachers.http.remote import PLAIN, Remote, RemoteBox
from teachers.intake import normalisation
from teachers.notes import Note
from teachers.storage import parsers
from teachers.storage.store import AnswerStore, Store
from teachers.surface import FULL, Answers
from teachers.task import Task

AUDITOR = "a-"  # begins the name of a block of images that the auditor asked about on its own account


class CachedAnswers:
    """A remote teacher's full answers, each stored as it arrives: the auditor's own measurements.

    Images that are asked about again are a question of their own, so that a teacher that is not deterministic can be
    seen: the second time has a block of its own, in this audit and in every later one.
    """

    def __init__(self, box: RemoteBox, store: AnswerStore) -> None:
        self._box, self._store = box, store
        self._times: Counter[str] = Counter()

    def __call__(self, images: Tensor) -> Answers:
        """Answer images (N, C, H, W): from the store, or by asking about those that are missing there."""
        digest = hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()[:48]
        self._times[digest] += 1
        block, rows = f"{AUDITOR}{digest}-{self._times[digest]}", np.arange(len(images))
        stored, missing = self._store.load(block, rows)
        if len(missing):
            for part, answers in self._box.batches(images[torch.from_numpy(missing)]):
                self._store.add(block, len(images), missing[part], answers)
            stored, missing = self._store.load(block, rows)
        if stored is None or len(missing):
            raise RuntimeError(f"{len(images)} answers were stored and are not there: {block}")
        return stored


def connect(
    address: str,
    normalize: str | None,
    task: Task,
    cache: Store,
    note: Note,
    service: Service = USUAL,
    order: tuple[int, ...] = (),
) -> Remote:
    """Open a teacher behind a URL; `order` says by class which of its outputs it is, where that is not the data's.

    Raises UsageError or RefusedInput with one sentence where it cannot be asked about the images of a task.
    """
    mean, std, bgr = normalisation(normalize or "none", task.shape[0])
    if bgr:
        raise UsageError(f"--normalize {normalize}: a URL has its own order of colours; leave /bgr out")
    normalise = PLAIN if normalize is None else (mean, std)
    remote = Remote(
        address, task.shape, len(task.classes), note=note, normalise=normalise, service=service, order=order
    )
    name = (store(remote, cache, len(task.classes)).folder / "output").relative_to(cache.root).as_posix()
    known = cache.entries.read(name, parsers.output, "it is found out again")
    remote.expect(known, lambda output: cache.entries.write(name, output.encode()))
    return remote


def store(remote: Remote, cache: Store, classes: int) -> AnswerStore:
    """Return where a remote teacher's full answers are kept."""
    return cache.answers(remote.fingerprint, FULL.name, classes, metered=True)
