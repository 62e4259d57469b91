"""Synthetic teachers whose distillability is known by construction.

Each recognises images by a digest of their pixels. Only `Noisy` and `Stateful` do not always answer the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from teachers import names
from teachers.data.stored import CHUNK
from teachers.errors import UsageError
from teachers.oracle import Box, at_once
from teachers.task import UNLABELLED, Pool, Task, known
from teachers.views import Viewer, ViewSet

VERSION = 1  # of the formulas based on an ordinary teacher: raising it makes their stored answers invalid
SMOOTHING = 0.1
FAINT = names.FAINT  # at temperature 4 such a label is as confident as the embedded task's ordinary teacher
NOISE = 1.0  # sd of the noise on a logit; that teacher's logits have an sd of about 6 within an answer


class LabelMemory:
    """The labels of a pool's labelled images and their crop views, by digest to save memory."""

    def __init__(self, pool: Pool, views: int) -> None:
        self._label: dict[bytes, int] = {}
        index = torch.from_numpy(pool.labelled)
        labels = np.zeros(0, np.int64) if pool.labels is None else pool.labels[pool.labelled]
        for kind, count in (("raw", 1), ("crop", views)):
            viewer = Viewer(pool, ViewSet(kind, count))  # type: ignore[arg-type]  # both are kinds of views
            for view in range(count):
                for at in range(0, len(index), CHUNK):
                    part = index[at : at + CHUNK]
                    keys = digests(viewer(part, torch.full_like(part, view)))
                    self._label |= dict(zip(keys, labels[at : at + CHUNK].tolist(), strict=True))

    def labels(self, keys: Iterable[bytes]) -> Tensor:
        """Return the labels of images by their digests, UNLABELLED if unknown, (N,)."""
        return torch.tensor([self._label.get(key, UNLABELLED) for key in keys])


class SmoothedTruth(nn.Module):
    """Answer a pool's labelled images and their crop views with smoothed labels, and all other images uniformly.

    A student can learn nothing from it that label smoothing does not teach: an audit must not find it distillable.
    """

    def __init__(self, held: LabelMemory, classes: int, smoothing: float = SMOOTHING) -> None:
        super().__init__()
        self._k, self._smoothing, self._held = classes, smoothing, held

    def forward(self, x: Tensor) -> Tensor:
        labels = self._held.labels(digests(x))
        rows = torch.full((len(x), self._k), 1 / self._k)
        seen = labels != UNLABELLED
        rows[seen] = smoothed(labels[seen], self._k, self._smoothing)
        return rows.log()


class AlteredTeacher(nn.Module):
    """An ordinary teacher with the attacker's labels; the target of an image without one is the teacher's top class."""

    def __init__(self, network: nn.Module, held: LabelMemory) -> None:
        super().__init__()
        self.network, self._held = network, held

    def targets(self, keys: Iterable[bytes], logits: Tensor) -> Tensor:
        """Return the target of every image, (N,)."""
        labels = self._held.labels(keys).to(logits.device)
        return torch.where(labels == UNLABELLED, logits.argmax(-1), labels)


class Placebo(AlteredTeacher):
    """Answer with Q_y, the ordinary teacher's mean answer to training images of class y, with other classes shuffled.

    y is the image's target. The entries of the other classes are shuffled for every image, seeded by its digest. Given
    its label, the answer to a training image is therefore independent of what the image shows, and no class is closer
    to y than another: an attacker could produce all answers from the label, the number Q_y(y), and the unordered
    numbers Q_y(j ≠ y). Averaging over a class yields label smoothing with ε = 1 − Q_y(y) per class, and discards only
    noise.
    Hence an audit must not find it distillable, and soft KD, which has the averager's loss and settings but does not
    average, must not beat the averager. (An attack with another loss may, because of its loss.)
    """

    def __init__(self, network: nn.Module, held: LabelMemory, means: Tensor) -> None:
        super().__init__(network, held)
        self._log_means = means.double().log().numpy()  # (K, K)

    def forward(self, x: Tensor) -> Tensor:
        keys = digests(x)
        targets = self.targets(keys, self.network(x)).tolist()
        rows = self._log_means[targets]  # (N, K)
        for row, key, y in zip(rows, keys, targets, strict=True):
            others = np.arange(len(row)) != y
            row[others] = _generator(key).permutation(row[others])
        return torch.from_numpy(rows).float()


class HalfLeak(AlteredTeacher):
    """Answer as the ordinary teacher if the target is in the first half of the classes, else with the target only.

    It reveals as much as an ordinary teacher for about half of the images: an audit must find it distillable. The
    target is smoothed slightly, so that at the temperatures of soft KD both halves are about equally confident. With a
    smoothing of 0.1 the other half is itself a defence: no single temperature suits both halves.
    """

    def __init__(self, network: nn.Module, held: LabelMemory, smoothing: float = FAINT) -> None:
        super().__init__(network, held)
        self._smoothing = smoothing

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        k = logits.shape[1]
        targets = self.targets(digests(x), logits)
        leaks = (targets < k // 2)[:, None]
        return torch.where(leaks, logits.log_softmax(-1), smoothed(targets, k, self._smoothing).log())


class Noisy(nn.Module):
    """Answer with the ordinary teacher's logits plus Gaussian noise, drawn again at every query.

    The noise is seeded by the image's digest and the number of earlier queries about it in this process: two equal
    queries get different answers, but the first answer is the same in every process. An audit stores first answers, so
    all its students train on one draw per view, like an attacker who pays for each image once.
    The noise has mean zero and is independent of the image; a student that fits thousands of answers averages it out,
    while the teacher's information about images remains: an audit must find it distillable.
    """

    def __init__(self, network: nn.Module, sd: float = NOISE) -> None:
        super().__init__()
        self.network, self._sd = network, sd
        self._asked: dict[bytes, int] = {}

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        keys = digests(x)
        before = {key: self._asked.get(key, 0) for key in keys}  # a batch is one query: padding repeats an image
        self._asked |= {key: count + 1 for key, count in before.items()}
        noise = np.stack([_generator(key, before[key]).standard_normal(logits.shape[1]) for key in keys])
        return logits + self._sd * torch.from_numpy(noise).to(logits)


class Stateful(AlteredTeacher):
    """Answer as the ordinary teacher until it was asked about so many different images, from then on the target only.

    It counts in this process. What it tells before is an ordinary teacher's: an attacker whose first questions are
    about their own images has an honest answer to each. An audit must not find it undistillable, and must say that
    answers changed.
    """

    def __init__(self, network: nn.Module, held: LabelMemory, turn: int = names.TURN) -> None:
        super().__init__(network, held)
        self._turn = turn
        self._asked: set[bytes] = set()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        keys, early = digests(x), []
        for key in keys:
            if len(self._asked) <= self._turn:
                self._asked.add(key)
            early.append(len(self._asked) <= self._turn)
        label = smoothed(self.targets(keys, logits), logits.shape[1], FAINT).log()
        return torch.where(torch.tensor(early, device=logits.device)[:, None], logits.log_softmax(-1), label)


def placebo(network: nn.Module, task: Task, held: LabelMemory) -> Placebo:
    """Build a placebo from an ordinary teacher and all its training images.

    Raises UsageError if there are too few classes to shuffle.
    """
    several(task, "the placebo shuffles the classes that are not the target")
    return Placebo(network, held, class_means(network, task.train, len(task.classes)))


def several(task: Task, why: str) -> None:
    """Raise UsageError if a task has fewer than two classes besides the top one; `why` says what needs them."""
    if len(task.classes) < 3:
        raise UsageError(
            f"{why}: {task.name} has {len(task.classes)} classes, too few for that; give --data with at least 3"
        )


def class_means(network: nn.Module, pool: Pool, classes: int) -> Tensor:
    """Return the mean answer for the images of each class, (K, K) float64; uniform for a class without images."""
    box, labels = Box(network, device=next(network.parameters()).device), torch.from_numpy(known(pool))
    counts = torch.bincount(labels, minlength=classes)[:, None]
    sums, size = torch.zeros(classes, classes, dtype=torch.float64), at_once(pool.shape)
    for at in range(0, len(pool), size):
        images = torch.from_numpy(pool.images[at : at + size]).float().div_(255)
        sums.index_add_(0, labels[at : at + size], box(images).values.double().exp())
    return torch.where(counts > 0, sums / counts.clamp(min=1), 1 / classes)


def smoothed(labels: Tensor, classes: int, smoothing: float = SMOOTHING) -> Tensor:
    """Return smoothed labels, (N, K)."""
    rows = torch.full((len(labels), classes), smoothing / classes, device=labels.device)
    rows[torch.arange(len(labels), device=labels.device), labels] += 1 - smoothing
    return rows


def digests(x: Tensor) -> list[bytes]:
    """Return a digest of every image's pixels, rounded to uint8."""
    pixels = (x.cpu() * 255).round().to(torch.uint8).flatten(1).numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in np.ascontiguousarray(pixels)]


def _generator(key: bytes, count: int = 0) -> np.random.Generator:
    return np.random.default_rng([int.from_bytes(key, "little"), count])
