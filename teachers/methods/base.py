"""The base class of methods that train a teacher, and the training run that they get."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from teachers.fidelity import Fidelity
from teachers.fields import counted
from teachers.task import Task
from teachers.training import Checkpointer, Objective, Recipe, StoredStream, Stream, Student, build_student, fit
from teachers.views import ViewSet

Weights = Mapping[str, Tensor]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class TeacherTraining:
    """What a method needs to train a teacher: the training images, the recipe, the seed, and the training loop.

    `plain` returns the weights of the ordinary teacher that some methods start from, avoid or copy.
    """

    task: Task
    recipe: Recipe
    seed: int
    plain: Callable[[], Weights]
    device: str = "cpu"
    progress: Callable[[int, int], None] | None = None  # called with the steps done and their total
    checkpointer: Checkpointer | None = None

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.task.classes)

    def part(self, share: float, rate: float, wrap: str | None = None) -> Recipe:
        """Return the recipe with a share of the steps and a multiple of the learning rate."""
        whole = self.recipe
        return replace(whole, steps=max(1, round(share * whole.steps)), lr=rate * whole.lr, wrap=wrap)

    def epoch(self, recipe: Recipe) -> int:
        """Return the number of steps of one pass over the training images."""
        return max(1, round(len(self.task.train) / recipe.batch))

    def stream(self, recipe: Recipe) -> StoredStream:
        """Return batches of the training images, with another view of them in every epoch."""
        pool = self.task.train
        views = ViewSet("crop" if pool.augment.pad or pool.augment.flip else "raw", recipe.views)
        return StoredStream(pool, views, batch=recipe.batch, seed=self.seed, device=self.device)

    def fit(
        self,
        objective: Objective,
        *,
        recipe: Recipe | None = None,
        stream: Stream | None = None,
        start: Weights | None = None,
    ) -> Student:
        """Train a network, from fresh weights or from `start`."""
        recipe, progress = recipe or self.recipe, self.progress
        return fit(
            recipe,
            stream or self.stream(recipe),
            objective,
            self.seed,
            classes=self.classes,
            shape=self.task.shape,
            device=self.device,
            progress=None if progress is None else lambda step: progress(step, recipe.steps),
            start=start,
            checkpointer=self.checkpointer,
        )

    def ordinary(self) -> nn.Module:
        """Return the ordinary teacher, frozen: from raw pixels (B, C, H, W) to logits (B, K)."""
        plain = replace(self.recipe, wrap=None)
        network = build_student(plain, self.classes, self.task.shape, self.device, start=self.plain())
        return network.eval().requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A method that trains a teacher; its fields are its settings."""

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    looks: ClassVar[bool] = False  # whether it needs an ordinary teacher
    fidelity: ClassVar[Fidelity | None] = None  # None: it was not compared with its authors' code
    later: ClassVar[frozenset[str]] = frozenset()  # fields that came after teachers were stored

    @abstractmethod
    def teach(self, trainer: TeacherTraining) -> Student:
        """Train a teacher; its last step is the result."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as plain data; one that came `later` counts where it is not the default."""
        return counted(self, self.later)

    def measure(self, trainer: TeacherTraining, network: nn.Module) -> dict[str, float]:
        """Return figures measured on a finished teacher with validation images, by name."""
        return {}


def validation_logits(trainer: TeacherTraining, network: nn.Module) -> Tensor:
    """Return a network's logits for the validation images, (N, K)."""
    images = torch.from_numpy(np.asarray(trainer.task.validation.images))
    with torch.no_grad():
        parts = [network(part.to(trainer.device).float().div(255)).cpu() for part in torch.split(images, 512)]
    return torch.cat(parts)


def divergence(first: Tensor, second: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean over a batch of KL(softmax(first / T) ‖ softmax(second / T)) in nats, logits (B, K)."""
    log_p, log_q = F.log_softmax(first / temperature, -1), F.log_softmax(second / temperature, -1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
