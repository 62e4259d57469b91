"""The one training loop: teachers, controls and knockoffs all pass through `fit`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from teachers import networks
from teachers.networks import Shape
from teachers.surface import Answers, concatenate
from teachers.task import UNLABELLED, Pool
from teachers.views import Viewer, ViewSet

PIXELS = 512 * 3 * 64 * 64  # of images that a student answers at once


@dataclass(frozen=True)
class Batch:
    """What a stream hands to an objective."""

    x: Tensor  # (B, C, H, W) float in [0, 1]
    labels: Tensor  # (B,) int64, UNLABELLED where unknown
    answers: Answers | None = None  # of the teacher, about these very pixels
    index: Tensor | None = None  # (B,) into the pool
    view: Tensor | None = None  # (B,) view ids
    partner: Tensor | None = None  # (B,) labels of the images mixed in
    weight: Tensor | None = None  # (B,) of the image itself in a mix

    def truth(self, classes: int, smoothing: float = 0.0) -> Tensor:
        """Return the labelled truth as distributions (B, K), mixed as the pixels are.

        Smoothing mixes with the uniform distribution over all classes, ε/K each. Unlabelled rows are all zero, so that
        a cross entropy against them vanishes.
        """
        truth = _rows(self.labels, classes, smoothing)
        if self.partner is not None and self.weight is not None:
            weight = self.weight[:, None]
            truth = weight * truth + (1 - weight) * _rows(self.partner, classes, smoothing)
        return truth


def _rows(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    known = labels != UNLABELLED
    rows = nn.functional.one_hot(labels.clamp(min=0), classes).float()
    return (rows * (1 - smoothing) + smoothing / classes) * known[:, None]


@dataclass(frozen=True)
class Outputs:
    """What a network gives: logits (B, K), and what a recipe's wrapping adds, such as auxiliary heads."""

    logits: Tensor
    heads: tuple[Tensor, ...] = ()


class Stream(Protocol):
    """Where batches come from: a stored pool, or a generator with its own optimiser and the oracle."""

    view: str  # kind of view, for the regime
    source: str  # original, surrogate or generated

    def next(self, step: int, student: nn.Module) -> Batch:
        """Return the batch of a step; may train something of its own against the student."""
        ...


class Objective(Protocol):
    """What is minimised.

    May also have `parameters() -> Iterable[Tensor]` with `optimiser() -> Optimizer` (learned with the student, by the
    same scalar) and `after_step(step)`.
    """

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        """Return the scalar loss of a batch."""
        ...


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; equal for a control and its attack."""

    architecture: str
    steps: int
    batch: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.05  # fraction of the steps with a linearly rising rate; then cosine to zero
    views: int = 8  # stored views an image: an epoch uses one
    wrap: str | None = None  # `module:function`, (network, classes, shape) -> network with heads or clones around it


@dataclass(frozen=True)
class Report:
    """What `fit` saw; "matched with the control" is computed from it."""

    recipe: Recipe
    view: str
    source: str
    parameters: int
    diverged: bool
    seconds: float
    step_seconds: float  # inside training steps, without waiting for data or answers
    repeats: float | None  # of the labelled images seen, those whose answer's top class is their label


class Checkpointer(Protocol):
    """Where an unfinished training is kept."""

    def due(self) -> bool:
        """Whether it is time to save."""
        ...

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state whole."""
        ...

    def load(self) -> dict[str, Any] | None:
        """Return the state that was kept, if any."""
        ...


@dataclass(frozen=True)
class Student:
    """A trained network: raw pixels in [0, 1] to logits, in eval mode."""

    network: nn.Module
    report: Report


class StoredStream:
    """Batches of a pool's views in a seeded order; sample p of epoch e is seen through view e mod V."""

    def __init__(
        self,
        pool: Pool,
        views: ViewSet,
        *,
        batch: int,
        seed: int,
        answers: Answers | None = None,
        only: np.ndarray | None = None,
        source: str = "original",
        device: torch.device | str = "cpu",
    ) -> None:
        """`only` restricts to some images; `answers` holds a row for every view of each of them, view-major."""
        self.view: str = views.kind
        self.source = source
        self._viewer = Viewer(pool, views, device)
        self._views, self._batch = views.count, batch
        self._answers, self._device = answers, torch.device(device)
        labels = np.full(len(pool), UNLABELLED) if pool.labels is None else pool.labels
        self._labels = torch.from_numpy(labels).to(device)
        self._index = torch.arange(len(pool)) if only is None else torch.from_numpy(only)
        self._row = torch.zeros(len(pool), dtype=torch.int64)
        self._row[self._index] = torch.arange(len(self._index))
        self._order = torch.Generator().manual_seed(seed)
        self._epoch, self._queue = -1, torch.zeros((2, 0), dtype=torch.int64)

    def skip(self, step: int) -> Tensor:
        """Pass over a batch; return the (image, view) pairs that were in it, (2, B)."""
        while self._queue.shape[1] < self._batch:
            self._epoch += 1
            index = self._index[torch.randperm(len(self._index), generator=self._order)]
            view = torch.full_like(index, self._epoch % self._views)
            self._queue = torch.cat([self._queue, torch.stack([index, view])], 1)
        now, self._queue = self._queue[:, : self._batch], self._queue[:, self._batch :]
        return now

    def next(self, step: int, student: nn.Module) -> Batch:
        now = self.skip(step)
        index, view = now.to(self._device)
        answers = None
        if self._answers is not None:
            answers = self._answers[now[1] * len(self._index) + self._row[now[0]]].to(self._device)
        batch = Batch(self._viewer(index, view), self._labels[index], answers, index, view)
        if not self.view.endswith("mixup"):
            return batch
        draws = self._viewer.draws
        return replace(batch, partner=self._labels[draws.partner[view, index]], weight=draws.weight[view, index])


class JoinedStream:
    """The same images through several kinds of views at once: x holds one kind after the other, `crop+strong`."""

    def __init__(self, parts: Sequence[StoredStream]) -> None:
        """All parts must be of one pool, batch and seed, so that their orders agree; none may mix images."""
        self._parts = parts
        self.view: str = "+".join(part.view for part in parts)
        self.source = parts[0].source

    def next(self, step: int, student: nn.Module) -> Batch:
        parts = [part.next(step, student) for part in self._parts]
        answers = [part.answers for part in parts if part.answers is not None]
        return Batch(
            torch.cat([part.x for part in parts]),
            torch.cat([part.labels for part in parts]),
            concatenate(answers) if answers else None,
            torch.cat([part.index for part in parts if part.index is not None]),
            torch.cat([part.view for part in parts if part.view is not None]),
        )


def fit(
    recipe: Recipe,
    stream: Stream,
    objective: Objective,
    seed: int,
    *,
    classes: int,
    shape: Shape,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
    start: Mapping[str, Tensor] | None = None,
    keeper: Checkpointer | None = None,
) -> Student:
    """Train one freshly initialised network; the last step is the result.

    The same seed gives the same initial weights to every objective; on a CPU also the same student, bit for bit, at
    equal thread count. Teachers may start from the weights of another network of the recipe's architecture, and be
    kept on the way, to go on after an interruption; students never.
    """
    started = time.perf_counter()
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = build_student(recipe, classes, shape, device, start=start).train()
        run = _Run(recipe, network, stream, objective, device)
        if keeper is not None:
            run.resume(keeper)
        run.train(progress, keeper)
    network.eval()
    finite = all(bool(torch.isfinite(p).all()) for p in network.state_dict().values() if p.is_floating_point())
    report = Report(
        recipe=recipe,
        view=stream.view,
        source=stream.source,
        parameters=sum(p.numel() for p in network.parameters()),
        diverged=not finite,
        seconds=time.perf_counter() - started,
        step_seconds=run.spent,
        repeats=run.repeats,
    )
    return Student(network, report)


def build_student(
    recipe: Recipe,
    classes: int,
    shape: Shape,
    device: torch.device | str = "cpu",
    start: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Build a recipe's network, wrapped as it says, with fresh weights or those of `start`, for raw pixels."""
    built = networks.build(recipe.architecture, classes, shape)
    if start is not None:
        built.load_state_dict(start)
    plain: nn.Module = networks.raw_pixels(built, shape[0])
    network = plain if recipe.wrap is None else EntryPoint("", recipe.wrap, "").load()(plain, classes, shape)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class _Run:
    """A training under way."""

    def __init__(
        self, recipe: Recipe, network: nn.Module, stream: Stream, objective: Objective, device: torch.device
    ) -> None:
        self.recipe, self.network, self.stream, self.objective = recipe, network, stream, objective
        weights = [p for p in network.parameters() if p.requires_grad]
        sgd = torch.optim.SGD(
            weights, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.momentum > 0
        )
        self.optimisers: list[torch.optim.Optimizer] = [sgd]
        if hasattr(objective, "optimiser"):
            self.optimisers.append(objective.optimiser())
        self.step, self.spent = 0, 0.0
        self.hits, self.seen = torch.zeros((), device=device), torch.zeros((), device=device)

    @property
    def repeats(self) -> float | None:
        return float(self.hits / self.seen) if self.seen > 0 else None

    def train(self, progress: Callable[[int], None] | None, keeper: Checkpointer | None) -> None:
        recipe, network, objective, optimisers = self.recipe, self.network, self.objective, self.optimisers
        after_step: Callable[[int], None] | None = getattr(objective, "after_step", None)
        warmup = max(1, round(recipe.warmup * recipe.steps))
        for step in range(self.step, recipe.steps):
            rising = min(1.0, (step + 1) / warmup)
            optimisers[0].param_groups[0]["lr"] = recipe.lr * rising * (1 + math.cos(math.pi * step / recipe.steps)) / 2
            batch = self.stream.next(step, network)
            network.train()
            began = time.perf_counter()
            raw = network(batch.x.contiguous(memory_format=torch.channels_last))
            loss = objective(_outputs(raw), batch, step)
            for optimiser in optimisers:
                optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for optimiser in optimisers:
                optimiser.step()
            if after_step is not None:
                after_step(step)
            self.spent += time.perf_counter() - began
            if batch.answers is not None:
                known = batch.labels != UNLABELLED
                self.hits += ((batch.answers.labels == batch.labels) & known).sum()
                self.seen += known.sum()
            self.step = step + 1
            if progress is not None:
                progress(step + 1)
            if keeper is not None and keeper.due():
                keeper.save(self.state())

    def state(self) -> dict[str, Any]:
        """Return all that the next steps depend on."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "objective": self.objective.state_dict() if hasattr(self.objective, "state_dict") else {},
            "chance": torch.get_rng_state(),
        }

    def resume(self, keeper: Checkpointer) -> None:
        """Go on from what was kept, if anything was."""
        state = keeper.load()
        if state is None:
            return
        self.step = state["step"]
        for step in range(self.step):
            self.stream.skip(step)  # type: ignore[attr-defined]  # teachers' streams can
        self.network.load_state_dict(state["network"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        if hasattr(self.objective, "load_state_dict"):
            self.objective.load_state_dict(state["objective"])
        torch.set_rng_state(state["chance"])


def _outputs(raw: Tensor | Outputs) -> Outputs:
    return raw if isinstance(raw, Outputs) else Outputs(raw)


@torch.no_grad()
def predict(network: nn.Module, pool: Pool, device: torch.device | str = "cpu") -> np.ndarray:
    """Return the top class of every image of a pool, (N,) uint16; images larger than CIFAR's fewer at a time."""
    network = network.to(device).eval()
    chunk = max(16, min(512, PIXELS // math.prod(pool.shape)))
    top = np.empty(len(pool), np.uint16)
    for at in range(0, len(pool), chunk):
        x = torch.from_numpy(pool.images[at : at + chunk]).to(device).float().div_(255)
        raw = network(x.contiguous(memory_format=torch.channels_last))
        top[at : at + chunk] = _outputs(raw).logits.argmax(-1).cpu().numpy()
    return top
