"""Ask the audited teacher again after training: are its answers still those that the students learned from?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.execution.metering import Block, Pixels, blocks
from audit.execution.runner import TrialRunner
from audit.trials.protocol import Experiment
from reports.record import PackedArray, SecondProbe
from teachers.http.remote import RemoteBox
from teachers.oracle import Ask
from teachers.storage.store import AnswerStore
from teachers.surface import FULL, Answers
from teachers.targets import questions
from teachers.targets.target import Target
from teachers.views import ViewSet

AGAIN = "b-"  # prefix of the names of blocks whose answers were asked for after training
Changes = NDArray[np.float16]


class AskedViews(NamedTuple):
    """Views that were asked before training, and what the surface showed of them."""

    images: Tensor  # (v, C, H, W)
    probs: Tensor  # (v, K)


def second_probe(
    runner: TrialRunner, target: Target, experiment: Experiment, sets: Sequence[ViewSet], probed: NDArray[np.float32]
) -> SecondProbe:
    """Ask a teacher about images that it answered before training: those of its probe, and views that attacks use.

    `probed` (n, K) are its first answers about the former. Views lie evenly in the order in which they were asked. They
    are asked twice, the second time in reverse, so that chance and the other images of a batch are told from a change.
    """
    full, shown = asked_afresh(runner, target)
    validation, classes = experiment.task.validation, runner.classes
    index = questions.drawn(len(validation))[: questions.BATCH]
    now = full(torch.from_numpy(validation.images[index]).float().div_(255))
    empty = np.zeros(0, np.float16)
    views, noise = empty, empty
    if (asked := asked_views(runner, target, experiment, sets)) is not None:
        first = shown(asked.images).probs(classes)
        second = shown(asked.images.flip(0)).probs(classes).flip(0)
        views, noise = change(asked.probs, first), change(first, second)
    return SecondProbe(
        queries=len(index) + 2 * len(views),
        validation=PackedArray.of(change(torch.from_numpy(probed).exp(), now.probs(classes))),
        views=PackedArray.of(views),
        noise=PackedArray.of(noise),
    )


def change(before: Tensor, after: Tensor) -> Changes:
    """Return the largest change of a probability between answers (n, K) about the same images, (n,)."""
    largest: Changes = (before - after).abs().amax(1).numpy().astype(np.float16)
    return largest


def asked_views(
    runner: TrialRunner, target: Target, experiment: Experiment, sets: Sequence[ViewSet]
) -> AskedViews | None:
    """Return some of the views that were asked before training, with their stored answers; None if none were."""
    order = ahead(experiment, sets)
    ends = np.cumsum([block.size for block, _ in order])
    places = questions.spread(int(ends[-1]) if len(ends) else 0)
    stored, images, probs = runner.cached_teacher(target), [], []
    for (block, pixels), end in zip(order, ends, strict=True):
        rows = places[(places >= end - block.size) & (places < end)] - (end - block.size)
        if len(rows):
            images.append(pixels(rows))
            probs.append(stored.answers(block, rows, pixels).probs(runner.classes))
    return AskedViews(torch.cat(images), torch.cat(probs)) if images else None


def ahead(experiment: Experiment, sets: Sequence[ViewSet]) -> list[tuple[Block, Pixels]]:
    """Return the blocks of views that a teacher is asked before training, in that order."""
    pool = experiment.pool
    return [(block, pixels) for one in sets for block, _, pixels in blocks(pool, one, np.arange(len(pool)))]


def asked_afresh(runner: TrialRunner, target: Target) -> tuple[Ask, Ask]:
    """Return what asks a teacher for full answers, and for those through its surface, without what is stored.

    A teacher behind a URL is asked afresh in every run that sent it an image. A run that sent it none rests on the
    answers of an earlier one, and takes that one's second probe with them: no image is paid for twice.
    """
    if target.remote is None:
        return target.full, target.box
    fresh = target.remote.sent > 0
    boxes = RemoteBox(target.remote), RemoteBox(target.remote, target.surface)
    stores = (
        runner.cache.answers(target.fingerprint, surface, runner.classes, metered=True)
        for surface in (FULL.name, target.surface.name)
    )
    full, shown = (LastAnswers(box, store, fresh) for box, store in zip(boxes, stores, strict=True))
    return full, shown


@dataclass(frozen=True)
class LastAnswers:
    """Answers of a remote teacher after training: asked for and stored, or the last that are stored."""

    box: RemoteBox
    store: AnswerStore
    fresh: bool

    def __call__(self, images: Tensor) -> Answers:
        """Answer images (N, C, H, W)."""
        digest, rows = hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()[:48], np.arange(len(images))
        last, number = None, 0
        while (found := self._whole(f"{AGAIN}{digest}-{number}", rows)) is not None:
            last, number = found, number + 1
        block = f"{AGAIN}{digest}-{number}"
        some, missing = self.store.load(block, rows)
        if last is not None and some is None and not self.fresh:
            return last
        for part, answers in self.box.batches(images[torch.from_numpy(missing)]):
            self.store.add(block, len(images), missing[part], answers)
        if (found := self._whole(block, rows)) is None:
            raise RuntimeError(f"{len(images)} stored answers are missing: {block}")
        return found

    def _whole(self, block: str, rows: NDArray[np.int64]) -> Answers | None:
        stored, missing = self.store.load(block, rows)
        return None if len(missing) else stored
