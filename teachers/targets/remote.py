"""Ask a teacher behind a URL: no image is paid for twice, and its output type is cached."""

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

AUDITOR = "a-"  # prefix of the names of answer blocks that the auditor, not an attacker, asked for


class CachedAnswers:
    """A remote teacher's full answers, for the auditor's own measurements; each is stored when it arrives.

    Asking about the same images a second time sends them again and stores the answers in a second block, so that a
    teacher that is not deterministic is noticed. A later audit reads both blocks from the store.
    """

    def __init__(self, box: RemoteBox, store: AnswerStore) -> None:
        self._box, self._store = box, store
        self._times: Counter[str] = Counter()

    def __call__(self, images: Tensor) -> Answers:
        """Answer images (N, C, H, W) from the store, after asking the teacher about those that are missing there."""
        digest = hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()[:48]
        self._times[digest] += 1
        block, rows = f"{AUDITOR}{digest}-{self._times[digest]}", np.arange(len(images))
        stored, missing = self._store.load(block, rows)
        if len(missing):
            for part, answers in self._box.batches(images[torch.from_numpy(missing)]):
                self._store.add(block, len(images), missing[part], answers)
            stored, missing = self._store.load(block, rows)
        if stored is None or len(missing):
            raise RuntimeError(f"{len(images)} stored answers are missing: {block}")
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
    """Open a teacher behind a URL; `order` gives for each class its output's index, if not the data's order.

    Raises UsageError or RefusedInput with one sentence if it cannot be asked about the images of a task.
    """
    mean, std, bgr = normalisation(normalize or "none", task.shape[0])
    if bgr:
        raise UsageError(f"--normalize {normalize}: a URL has its own order of channels; leave /bgr out")
    normalise = PLAIN if normalize is None else (mean, std)
    remote = Remote(
        address, task.shape, len(task.classes), note=note, normalise=normalise, service=service, order=order
    )
    name = (store(remote, cache, len(task.classes)).folder / "output").relative_to(cache.root).as_posix()
    known = cache.entries.read(name, parsers.output, "it is measured again")
    remote.expect(known, lambda output: cache.entries.write(name, output.encode()))
    return remote


def store(remote: Remote, cache: Store, classes: int) -> AnswerStore:
    """Return the store of a remote teacher's full answers."""
    return cache.answers(remote.fingerprint, FULL.name, classes, metered=True)
