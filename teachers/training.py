"""The only training loop: teachers, controls and attackers' students are all trained by `fit`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from typing import Any, Protocol, overload

import numpy as np
import torch
from torch import Tensor, nn

from teachers import graphs, networks
from teachers.fields import counted
from teachers.graphs import Recording
from teachers.networks import Shape
from teachers.precision import FLOAT32, Precision
from teachers.surface import Answers, concatenate
from teachers.task import UNLABELLED, Pool
from teachers.views import Viewer, ViewSet

LATER = frozenset({"precision"})  # fields of a recipe that came after students were stored
MOST_DECODED = 300  # characters of what an attack found that the teacher does to its answers
PIXELS = 512 * 3 * 64 * 64  # pixel values per forward pass of `predict`


@dataclass(frozen=True)
class Batch:
    """The data that a stream passes to an objective in one step."""

    x: Tensor  # (B, C, H, W) float in [0, 1]
    labels: Tensor  # (B,) int64, UNLABELLED where unknown
    answers: Answers | None = None  # the teacher's, about exactly these pixels
    index: Tensor | None = None  # (B,) indices into the pool
    view: Tensor | None = None  # (B,) view ids
    partner: Tensor | None = None  # (B,) labels of the images mixed in
    weight: Tensor | None = None  # (B,) share of the image itself in the mix

    def truth(self, classes: int, smoothing: float = 0.0) -> Tensor:
        """Return the labels as distributions (B, K), mixed like the pixels.

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
    """A network's outputs: logits (B, K), and those that a recipe's `wrap` adds, such as auxiliary heads."""

    logits: Tensor
    heads: tuple[Tensor, ...] = ()


class AnswerRows(Protocol):
    """Answers that are read by rows: `Answers` themselves, or what is computed from them on the way."""

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, index: Tensor) -> Answers: ...

    @overload
    def __getitem__(self, index: slice) -> AnswerRows: ...


class Stream(Protocol):
    """A source of batches: a stored pool, or a generator with its own optimiser and the oracle."""

    view: str  # kind of view, for the report
    source: str  # original, surrogate or generated

    def next(self, step: int, student: nn.Module) -> Batch:
        """Return the batch of a step; may train its own networks against the student."""
        ...


class Objective(Protocol):
    """The loss to minimise.

    May also have `parameters() -> Iterable[Tensor]` with `optimiser() -> Optimizer`, which are trained with the student
    on the same scalar, and `after_step(step)`.
    """

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        """Return the scalar loss of a batch."""
        ...


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of training a network; an attack and its control have the same."""

    architecture: str
    steps: int
    batch: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.05  # fraction of the steps in which the rate rises linearly; then it falls to zero as a cosine
    views: int = 8  # stored views per image: an epoch uses one
    wrap: str | None = None  # `module:function`, (network, classes, shape) -> wrapped network with heads or clones
    precision: Precision = FLOAT32  # of the network in a step; weights, losses and evaluation have float32

    @property
    def settings(self) -> dict[str, Any]:
        """The hyperparameters as plain data."""
        return counted(self, LATER)


@dataclass(frozen=True)
class Report:
    """The facts of a training; whether an attack is matched with its control is computed from them."""

    recipe: Recipe
    view: str
    source: str
    parameters: int
    diverged: bool
    seconds: float
    step_seconds: float  # in training steps only, without waiting for data or answers
    repeats: float | None  # share of the labelled images seen whose answer's top class is their label
    decoded: str = ""  # what an attack found that the teacher does to its answers
    memory: int = 0  # bytes on the card, at most, where there is one


class Checkpointer(Protocol):
    """Saves and restores an unfinished training."""

    def due(self) -> bool:
        """Whether it is time to save."""
        ...

    def save(self, state: dict[str, Any]) -> None:
        """Save a state, whole or not at all."""
        ...

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, or None."""
        ...


@dataclass(frozen=True)
class Student:
    """A trained network: raw pixels in [0, 1] to logits, in eval mode."""

    network: nn.Module
    report: Report


class StoredStream:
    """Batches of a pool's views in a seeded order; in epoch e every image is shown in view e mod V."""

    def __init__(
        self,
        pool: Pool,
        views: ViewSet,
        *,
        batch: int,
        seed: int,
        answers: AnswerRows | None = None,
        only: np.ndarray | None = None,
        source: str = "original",
        device: torch.device | str = "cpu",
    ) -> None:
        """`only`: indices of the images to use; `answers`: a row for every view of each of them, view-major."""
        self.view: str = views.kind
        self.source = source
        self._viewer = Viewer(pool, views, device)
        self._views, self._batch = views.count, batch
        self._answers, self._device = answers, torch.device(device)
        self._labels = torch.from_numpy(pool.every_label).to(device)
        self._index = torch.arange(len(pool)) if only is None else torch.from_numpy(only)
        self._row = torch.zeros(len(pool), dtype=torch.int64)
        self._row[self._index] = torch.arange(len(self._index))
        self._order = torch.Generator().manual_seed(seed)
        self._epoch, self._queue = -1, torch.zeros((2, 0), dtype=torch.int64)

    def skip(self, step: int) -> Tensor:
        """Skip a batch; return its (image, view) pairs, (2, B)."""
        while self._queue.shape[1] < self._batch:
            self._epoch += 1
            index = self._index[torch.randperm(len(self._index), generator=self._order)]
            view = torch.full_like(index, self._epoch % self._views)
            self._queue = torch.cat([self._queue, torch.stack([index, view])], 1)
        now, self._queue = self._queue[:, : self._batch], self._queue[:, self._batch :]
        return now

    def next(self, step: int, student: nn.Module) -> Batch:
        now = self.skip(step)
        index, view = now.to(self._device, non_blocking=True)
        answers = None
        if self._answers is not None:
            answers = self._answers[now[1] * len(self._index) + self._row[now[0]]].to(self._device)
        batch = Batch(self._viewer(index, view), self._labels[index], answers, index, view)
        if not self.view.endswith("mixup"):
            return batch
        draws = self._viewer.draws
        return replace(batch, partner=self._labels[draws.partner[view, index]], weight=draws.weight[view, index])


class JoinedStream:
    """The same images in several kinds of views at once (`crop+strong`): x holds one kind after the other."""

    def __init__(self, parts: Sequence[StoredStream]) -> None:
        """All parts must have the same pool, batch size and seed, so that their orders agree; none may mix images."""
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
    checkpointer: Checkpointer | None = None,
) -> Student:
    """Train one freshly initialised network; the last step is the result.

    The same seed gives the same initial weights for every objective; on a CPU with the same number of threads also the
    same student, bit for bit. Only teachers use `start`, the weights of another network of the recipe's architecture,
    and `checkpointer`, which saves checkpoints so that training can resume after an interruption.
    """
    started = time.perf_counter()
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = build_student(recipe, classes, shape, device, start=start).train()
        run = _Run(recipe, network, stream, objective, device)
        if checkpointer is not None:
            run.resume(checkpointer)
        with graphs.own_stream(device):
            run.train(progress, checkpointer)
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
    """Build a recipe's network for raw pixels, wrapped by `wrap`, with fresh weights or those of `start`."""
    built = networks.build(recipe.architecture, classes, shape)
    if start is not None:
        built.load_state_dict(start)
    plain: nn.Module = networks.raw_pixels(built, shape[0])
    network = plain if recipe.wrap is None else EntryPoint("", recipe.wrap, "").load()(plain, classes, shape)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class _Run:
    """A training in progress."""

    def __init__(
        self, recipe: Recipe, network: nn.Module, stream: Stream, objective: Objective, device: torch.device
    ) -> None:
        self.recipe, self.network, self.stream, self.objective = recipe, network, stream, objective
        weights = [p for p in network.parameters() if p.requires_grad]
        self.recorder = graphs.on_card if graphs.present(device) else None
        sgd = torch.optim.SGD(
            weights,
            recipe.lr,
            recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
            fused=True if self.recorder else None,
        )
        self.optimisers: list[torch.optim.Optimizer] = [sgd]
        if hasattr(objective, "optimiser"):
            self.optimisers.append(objective.optimiser())
        if graphs.why_not(objective, len(self.optimisers)):
            self.recorder = None
        self.recording: Recording | None = None
        self.step, self.spent = 0, 0.0
        self.hits, self.seen = torch.zeros((), device=device), torch.zeros((), device=device)

    @property
    def repeats(self) -> float | None:
        return float(self.hits / self.seen) if self.seen > 0 else None

    def train(self, progress: Callable[[int], None] | None, checkpointer: Checkpointer | None) -> None:
        recipe, network = self.recipe, self.network
        after_step: Callable[[int], None] | None = getattr(self.objective, "after_step", None)
        warmup = max(1, round(recipe.warmup * recipe.steps))
        for step in range(self.step, recipe.steps):
            rising = min(1.0, (step + 1) / warmup)
            self._set_rate(recipe.lr * rising * (1 + math.cos(math.pi * step / recipe.steps)) / 2)
            batch = self.stream.next(step, network)
            network.train()
            began = time.perf_counter()
            self._take(batch, step)
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
            if checkpointer is not None and checkpointer.due():
                checkpointer.save(self.state())

    def _set_rate(self, rate: float) -> None:
        group = self.optimisers[0].param_groups[0]
        if self.recorder is None:
            group["lr"] = rate
        elif isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = torch.tensor(rate, device=group["params"][0].device)  # a recorded step reads it at its place

    def _take(self, batch: Batch, step: int) -> None:
        """Take a step: as it is, or as it was recorded."""
        if self.recorder is not None and self.recording is None and step >= graphs.EAGER:
            self.recording = Recording.of(batch, self._learn, self.recorder)
            self.recorder = self.recorder if self.recording else None
        if self.recording is not None and self.recording.fits(batch):
            self.recording.learn(batch)
        else:
            self._learn(batch, step)

    def _learn(self, batch: Batch, step: int) -> None:
        loss = self.objective(self._answered(batch.x), batch, step)
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in self.optimisers:
            optimiser.step()

    def _answered(self, x: Tensor) -> Outputs:
        x = x.contiguous(memory_format=torch.channels_last)
        if self.recipe.precision == FLOAT32:
            return _outputs(self.network(x))
        with torch.autocast(x.device.type, torch.bfloat16):
            found = _outputs(self.network(x))
        return Outputs(found.logits.float(), tuple(head.float() for head in found.heads))

    def state(self) -> dict[str, Any]:
        """Return everything that the next steps depend on."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "objective": self.objective.state_dict() if hasattr(self.objective, "state_dict") else {},
            "chance": torch.get_rng_state(),
        }

    def resume(self, checkpointer: Checkpointer) -> None:
        """Restore the saved state, if there is one."""
        state = checkpointer.load()
        if state is None:
            return
        self.step = state["step"]
        for step in range(self.step):
            self.stream.skip(step)  # type: ignore[attr-defined]  # teachers' streams have `skip`
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
    """Return the top class of every image of a pool, (N,) uint16; large images in smaller batches."""
    network = network.to(device).eval()
    chunk = max(16, min(512, PIXELS // math.prod(pool.shape)))
    top = np.empty(len(pool), np.uint16)
    for at in range(0, len(pool), chunk):
        x = torch.from_numpy(pool.images[at : at + chunk]).to(device).float().div_(255)
        raw = network(x.contiguous(memory_format=torch.channels_last))
        top[at : at + chunk] = _outputs(raw).logits.argmax(-1).cpu().numpy()
    return top
