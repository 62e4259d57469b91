"""What the auditor asks the audited teacher before anything is trained: are its answers what a protocol may rest on?"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audit.subjects import Subject
from reports.record import Normalised, Packed, Probe
from teachers.errors import RefusedInput
from teachers.guards import Guarded
from teachers.intake import NORMALISATIONS, Teacher, normalisation
from teachers.networks import Preprocessed
from teachers.oracle import CHUNK, Ask, Box
from teachers.task import Images, Pool, Task, known

GROUPS, GROUP = 8, 8  # small batches in which images are asked once more: each is filled up with copies of its first
SAMPLE = 1_024  # images, at most, that each normalisation is tried on: enough to see a point at p < 0.001
COLOURS = 2_000  # training images, at most, whose mean and spread are a normalisation to try
BYTES = "0/0.00392156862745098"  # for a network that takes pixels from 0 to 255

Tops = NDArray[np.uint16]


def probe(subject: Subject, task: Task, top: Tops, device: str = "cpu") -> Probe:
    """Ask a teacher's full box the same images again, in other batches and behind other normalisations.

    `top` (M,) is what it says of the validation images.
    """
    order = np.random.default_rng(0).permutation(len(task.validation))[:SAMPLE]
    drawn = order[:CHUNK]
    first, softmaxed = raw(subject, task.validation, drawn)
    again = ask(subject.full, task.validation, drawn)
    few = drawn[: GROUPS * GROUP]
    apart = [ask(subject.full, task.validation, few[at : at + GROUP]) for at in range(0, len(few), GROUP)]
    normalised = behind_others(subject.teacher, task, order, device)
    return Probe(
        images=len(drawn),
        queries=queries(len(task.validation), len(normalised)),
        repeated=Packed.of(change(first, again)),
        regrouped=Packed.of(change(first[: len(few)], np.concatenate(apart))),
        softmaxed=softmaxed,
        saturated=float((np.exp(first.max(1)) == 1).mean()),
        correct=Packed.of(top[order] == known(task.validation)[order]),
        normalised=normalised,
        duplicated=Packed.of(among(task.test.images, task.train.images)),
    )


def queries(images: int, normalisations: int) -> int:
    """Return what a probe asks where there are so many validation images, and normalisations to try."""
    drawn = min(images, SAMPLE)
    return 2 * min(drawn, CHUNK) + min(drawn, GROUPS * GROUP) + normalisations * drawn


def innermost(network: nn.Module) -> nn.Module:
    """Return the network as its owner knows it: without our preprocessing and without a guard."""
    inner = network.network if isinstance(network, Preprocessed) else network
    return inner.network if isinstance(inner, Guarded) else inner


def raw(subject: Subject, pool: Pool, index: NDArray[np.int64]) -> tuple[NDArray[np.float32], bool]:
    """Return log-probabilities of some images, and whether the network's own outputs were distributions already.

    They are not where it is behind an API: there, what kind of numbers they are is told by the answers themselves.
    """
    network, outputs = subject.teacher.network, list[Tensor]()  # before our log-softmax
    if network is None:
        return ask(subject.full, pool, index), False
    handle = innermost(network).register_forward_hook(lambda _, __, out: outputs.append(out))
    first = ask(subject.full, pool, index)
    handle.remove()
    return first, probabilities(outputs[0][: len(index)])


def ask(box: Ask, pool: Pool, index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return log-probabilities (n, K) of some images of a pool, asked as one batch."""
    answers: NDArray[np.float32] = box(torch.from_numpy(pool.images[index]).float().div_(255)).values.numpy()
    return answers


def change(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return the largest change of a probability between answers (n, K) about the same images, (n,)."""
    largest: NDArray[np.float32] = np.abs(np.exp(before) - np.exp(after)).max(1)
    return largest.astype(np.float16)


def probabilities(outputs: Tensor) -> bool:
    """Whether every row of a network's raw outputs (n, K) is a distribution already."""
    rows = outputs.float()
    return bool((rows >= 0).all() and (rows <= 1).all() and ((rows.sum(-1) - 1).abs() < 1e-3).all())


def behind_others(
    teacher: Teacher, task: Task, index: NDArray[np.int64], device: str = "cpu"
) -> tuple[Normalised, ...]:
    """Say what a network gets right of some validation images behind every other normalisation, where it has one."""
    if not isinstance(teacher.network, Preprocessed):
        return ()
    right, found = known(task.validation)[index], []
    for text in candidates(teacher, task):
        box = Box(Preprocessed(teacher.network.network, *normalisation(text, task.shape[0])), device=device)
        try:
            correct = ask(box, task.validation, index).argmax(1) == right
        except RefusedInput:  # NaN: not the normalisation of this network
            correct = np.zeros(len(index), bool)
        found.append(Normalised(normalize=text, correct=Packed.of(correct)))
    return tuple(found)


def candidates(teacher: Teacher, task: Task) -> list[str]:
    """Return normalisations as --normalize takes them: those with a name, 0 to 255, the data's own; not the chosen.

    None where the normalisation is not ours to change.
    """
    if not isinstance(teacher.network, Preprocessed):
        return []
    channels = task.shape[0]
    texts = [text for text, (mean, _) in NORMALISATIONS.items() if len(mean) in (1, channels)]
    pairs = {text: normalisation(text, channels) for text in (*texts, BYTES, own(task.train))}
    chosen = teacher.mean, teacher.std
    return [text for text, pair in pairs.items() if not np.allclose(pair, chosen, rtol=0, atol=1e-3)]


def own(pool: Pool) -> str:
    """Return the mean and spread of a pool's pixels by channel, as --normalize takes them."""
    pixels = pool.images[:: max(1, len(pool) // COLOURS)].astype(np.float32) / 255
    parts = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clip(1e-3)
    return "/".join(",".join(f"{v:.4f}" for v in part) for part in parts)


def among(images: Images, others: Images) -> NDArray[np.bool_]:
    """Say which images (N, C, H, W) are among others, pixel by pixel, (N,)."""
    seen = set(_digests(others))
    return np.array([digest in seen for digest in _digests(images)], bool)


def _digests(images: Images) -> list[bytes]:
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
