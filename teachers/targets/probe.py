"""Probe the audited teacher before anything is trained: can its answers be relied on?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from teachers.data.stored import chunks
from teachers.errors import RefusedInput
from teachers.guards import GuardedNetwork
from teachers.intake import NORMALISATIONS, Normalisation, Teacher, normalisation
from teachers.intake.normalise import BGR
from teachers.networks import PreprocessedNetwork, ReorderedNetwork
from teachers.numbers import WHOLE, kind
from teachers.oracle import Ask, Box
from teachers.targets.questions import BATCH, GROUP, GROUPS, drawn, queries
from teachers.targets.selection import Tops
from teachers.targets.target import Target
from teachers.task import Images, Pool, Task, known

COLOURS = 2_000  # training images, at most, whose mean and standard deviation give a normalisation to try
BYTES = "0/0.00392156862745098"  # for a network that takes pixels from 0 to 255


@dataclass(frozen=True)
class ProbeResult:
    """How a teacher answers the same images again, in other batches and under other normalisations."""

    images: int  # validation images that were asked about again
    queries: int
    repeated: NDArray[np.float16]  # (n,) largest change of a probability when the same batch is asked again
    regrouped: NDArray[np.float16]  # (m,) the same when the first m of them are asked about in small batches
    softmaxed: bool  # the network's raw outputs are already probability distributions
    saturated: float  # share of the answers whose top probability is exactly 1 in single precision
    correct: NDArray[np.bool_]  # (k,) whether the teacher is right on each image that normalisations are tried on
    normalised: dict[str, NDArray[np.bool_]]  # (k,) each: the same under every other normalisation
    duplicated: NDArray[np.bool_]  # (N,) whether each test image is also in the training split


def probe(target: Target, task: Task, top: Tops, device: str = "cpu") -> ProbeResult:
    """Ask a teacher for full answers to the same images again, in other batches and under other normalisations.

    `top` (M,) holds the teacher's top class for each validation image.
    """
    order = drawn(len(task.validation))
    batch = order[:BATCH]
    first, softmaxed = listened(target, task.validation, batch)
    again = ask(target.full, task.validation, batch)
    few = batch[: GROUPS * GROUP]
    apart = [ask(target.full, task.validation, few[at : at + GROUP]) for at in range(0, len(few), GROUP)]
    normalised = behind_others(target.teacher, task, order, device)
    return ProbeResult(
        images=len(batch),
        queries=queries(len(task.validation), len(normalised)),
        repeated=change(first, again),
        regrouped=change(first[: len(few)], np.concatenate(apart)),
        softmaxed=softmaxed,
        saturated=float((np.exp(first.max(1)) == 1).mean()),
        correct=top[order] == known(task.validation)[order],
        normalised=normalised,
        duplicated=among(task.test.images, task.train.images),
    )


@contextmanager
def listening(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the network's own outputs, before our log-softmax and before any guard."""
    outputs: list[Tensor] = []
    handle = innermost(network).register_forward_hook(lambda _, __, out: outputs.append(out))
    try:
        yield outputs
    finally:
        handle.remove()


def raw(network: nn.Module, x: Tensor) -> Tensor:
    """Return the network's own outputs for images (n, C, H, W), as floats (n, K)."""
    with listening(network.eval()) as outputs, torch.no_grad():
        network(x)
    return outputs[0].float().cpu()


def innermost(network: nn.Module) -> nn.Module:
    """Return the network as its owner built it: without our preprocessing, class reordering and guard."""
    inner = network.network if isinstance(network, PreprocessedNetwork) else network
    return inner.network if isinstance(inner, GuardedNetwork | ReorderedNetwork) else inner


def listened(target: Target, pool: Pool, index: NDArray[np.int64]) -> tuple[NDArray[np.float32], bool]:
    """Return log-probabilities of some images, and whether the network's own outputs were already distributions.

    For a teacher behind an API the second is False: its output type is recognised from the answers themselves.
    """
    if target.teacher.network is None:
        return ask(target.full, pool, index), False
    with listening(target.teacher.network) as outputs:
        first = ask(target.full, pool, index)
    return first, kind(outputs[0][: len(index)]) in WHOLE


def ask(box: Ask, pool: Pool, index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return log-probabilities (n, K) of some images of a pool, asked as one batch."""
    answers: NDArray[np.float32] = box(torch.from_numpy(pool.images[index]).float().div_(255)).values.numpy()
    return answers


def change(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return the largest change of a probability between answers (n, K) about the same images, (n,)."""
    largest: NDArray[np.float32] = np.abs(np.exp(before) - np.exp(after)).max(1)
    return largest.astype(np.float16)


def behind_others(
    teacher: Teacher, task: Task, index: NDArray[np.int64], device: str = "cpu"
) -> dict[str, NDArray[np.bool_]]:
    """Return which validation images a network gets right under every other normalisation; empty if it takes none."""
    if not isinstance(teacher.network, PreprocessedNetwork):
        return {}
    right, network = known(task.validation)[index], teacher.network.network
    return {
        text: tops_behind(network, normalisation(text, task.shape[0]), task, index, device) == right
        for text in candidates(teacher, task)
    }


def tops_behind(
    network: nn.Module, given: Normalisation, task: Task, index: NDArray[np.int64], device: str = "cpu"
) -> Tops:
    """Return a network's top classes (n,) of validation images under a normalisation; all K if it gives NaN."""
    try:
        answers = ask(Box(PreprocessedNetwork(network, *given), device=device), task.validation, index)
    except RefusedInput:  # NaN: not the normalisation of this network
        return np.full(len(index), len(task.classes), np.uint16)
    top: Tops = answers.argmax(1).astype(np.uint16)
    return top


def candidates(teacher: Teacher, task: Task) -> list[str]:
    """Return the normalisations to try, without the teacher's own."""
    tuned = Normalisation(teacher.mean, teacher.std, teacher.bgr)
    return [text for text, given in normalisations(task).items() if not same(given, tuned)]


def normalisations(task: Task) -> dict[str, Normalisation]:
    """Return the normalisations to try, as --normalize takes them: named ones, 0 to 255, the data's own; also in BGR.

    No two of them are the same.
    """
    channels = task.shape[0]
    texts = [text for text, (mean, _) in NORMALISATIONS.items() if len(mean) in (1, channels)]
    texts += [BYTES, own(task.train)]
    if coloured(task.validation):
        texts += [text + BGR for text in texts]
    found: dict[str, Normalisation] = {}
    for text in texts:
        given = normalisation(text, channels)
        if not any(same(given, other) for other in found.values()):
            found[text] = given
    return found


def same(one: Normalisation, other: Normalisation) -> bool:
    """Whether two normalisations are equal up to rounding."""
    return one.bgr == other.bgr and np.allclose(one[:2], other[:2], rtol=0, atol=1e-3)


def coloured(pool: Pool) -> bool:
    """Whether red and blue differ anywhere in a pool."""
    return pool.shape[0] == 3 and any(bool((part[:, 0] != part[:, 2]).any()) for part in chunks(pool.images))


def own(pool: Pool) -> str:
    """Return the mean and standard deviation of a pool's pixels per channel, as --normalize takes them."""
    pixels = pool.images[:: max(1, len(pool) // COLOURS)].astype(np.float32) / 255
    parts = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clip(1e-3)
    return "/".join(",".join(f"{v:.4f}" for v in part) for part in parts)


def among(images: Images, others: Images) -> NDArray[np.bool_]:
    """Return which images (N, C, H, W) equal one of the others in every pixel, (N,)."""
    seen = set(_digests(others))
    return np.array([digest in seen for digest in _digests(images)], bool)


def _digests(images: Images) -> list[bytes]:
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
