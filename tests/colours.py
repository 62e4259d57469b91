"""Images of one colour each, and small networks that are trained on them behind a normalisation."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from teachers import intake, networks
from teachers.task import Pool, Task
from teachers.training import Batch, Outputs, Recipe, StoredStream, fit
from teachers.views import ViewSet

LEVELS, HUES = 9, 2
ARCHITECTURE = "strided-8-16"


def painted(images: int, seed: int) -> Pool:
    """Draw images of one colour each, under noise: its class is how bright it is, and whether it is red or blue."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % (LEVELS * HUES)
    bright, blue = 0.15 + 0.075 * (labels // HUES), labels % HUES
    colour = np.stack([bright + 0.15 * (blue == 0), bright, bright + 0.15 * (blue == 1)], 1)
    pixels = colour[:, :, None, None] + rng.normal(0, 0.06, (images, 3, 8, 8))
    return Pool((255 * pixels.clip(0, 1)).round().astype(np.uint8), labels)


@cache
def paint() -> Task:
    classes = tuple(f"c{i}" for i in range(LEVELS * HUES))
    return Task("colours", classes, painted(1_800, 0), painted(900, 1), painted(900, 2))


@dataclass
class Behind:
    """Batches whose images are normalised so, once a network of ours has normalised them its own way."""

    stream: StoredStream
    given: intake.Normalisation
    view: str = "raw"
    source: str = "original"

    def next(self, step: int, student: nn.Module) -> Batch:
        batch = self.stream.next(step, student)
        mean, std = (torch.tensor(part)[:, None, None] for part in self.given[:2])
        x = (batch.x - mean) / std
        return replace(batch, x=0.5 + 0.25 * (x.flip(1) if self.given.bgr else x))


def loss(outputs: Outputs, batch: Batch, step: int) -> Tensor:
    return nn.functional.cross_entropy(outputs.logits, batch.labels)


def taught(task: Task, given: intake.Normalisation, steps: int = 500) -> dict[str, Tensor]:
    """Train a network behind a normalisation; the tensors are all that a stranger gets."""
    stream = Behind(StoredStream(task.train, ViewSet("raw", 1), batch=64, seed=0), given)
    student = fit(Recipe(ARCHITECTURE, steps, batch=64), stream, loss, 0, classes=len(task.classes), shape=task.shape)
    assert isinstance(student.network, networks.PreprocessedNetwork)
    return {name: t.contiguous() for name, t in student.network.network.state_dict().items()}


@cache
def trained(normalize: str) -> dict[str, Tensor]:
    """Train a network behind a normalisation, once."""
    return taught(paint(), intake.normalisation(normalize, 3))
