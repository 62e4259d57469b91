"""The interface of an attack: its fields are hyperparameters, `run(lab)` is the technique."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.own_answers import Paid, pay
from teachers.errors import UsageError
from teachers.fidelity import Fidelity
from teachers.fields import counted
from teachers.oracle import Oracle
from teachers.storage.entries import Entries
from teachers.storage.mapped import AnswerFiles
from teachers.surface import Answers, Kind, concatenate
from teachers.task import Pool
from teachers.training import AnswerRows, JoinedStream, Objective, Recipe, StoredStream, Stream, Student, fit
from teachers.views import Viewer, ViewSet

Holds = Literal["original", "surrogate", "no data"]
Index = NDArray[np.int64]
Library = Callable[[Pool, Sequence[ViewSet], Index], Answers]  # the stored answers about some images, view-major


class Lab:
    """All that an attacker has: a black box, their images, and a function that trains a student.

    `oracle` is None for controls. `pool` holds the attacker's images of the task, and is empty for attacks that have
    none; `surrogate` holds other, unlabelled images. `seed` is the only source of randomness.
    """

    def __init__(
        self,
        *,
        oracle: Oracle | None,
        pool: Pool,
        surrogate: Pool,
        classes: int,
        recipe: Recipe,
        seed: int,
        device: str = "cpu",
        library: Library | None = None,
        progress: Callable[[int], None] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._oracle, self._library, self._progress = oracle, library, progress
        self._folder = folder or Path(tempfile.gettempdir())
        self.pool, self.surrogate, self.classes, self.recipe = pool, surrogate, classes, recipe
        self.seed, self.device = seed, device
        self.last: Student | None = None
        self.step_seconds = 0.0
        self.decoded = ""  # what an attack found that the teacher does to its answers: a sentence for the report

    def _ask_all(self, pool: Pool, sets: Sequence[ViewSet], index: Index) -> Answers:
        images, viewers = torch.from_numpy(index), ((Viewer(pool, one), one.count) for one in sets)
        pixels = (viewer(images, torch.full_like(images, v)) for viewer, count in viewers for v in range(count))
        return concatenate([self.oracle.ask(x) for x in pixels])

    @property
    def oracle(self) -> Oracle:
        """The black box: it answers float images in [0, 1] within the budget; raise PermissionError for a control."""
        if self._oracle is None:
            raise PermissionError("a control may not query a teacher")
        return self._oracle

    def spend(self, wish: int) -> int:
        """Return the number of queries to make: `wish`, or what the budget leaves if that is less."""
        budget = self.oracle.budget
        return wish if budget is None else min(wish, budget - self.oracle.charged)

    def view_set(self, kind: str, views: int | None = None) -> ViewSet:
        """Return a set of `views` views of a kind, by default as many as the recipe stores."""
        return ViewSet(kind, 1 if kind == "raw" else views or self.recipe.views)  # type: ignore[arg-type]  # it checks

    def answers(
        self, kind: str, *, pool: Pool | None = None, only: Index | None = None, views: int | None = None
    ) -> Answers:
        """Return the answers about all views of a pool's images, view-major: the teacher's, each asked once and stored.

        The answers of kinds joined by + follow each other. Where the budget does not pay for all, the attacker answers
        the rest (`paid`). Raises BudgetExceeded before anything is asked if they cannot.
        """
        paid = self.paid(kind, pool=pool, only=only, views=views)
        return self.completed(paid, self.told(paid))

    def paid(self, kind: str, *, pool: Pool | None = None, only: Index | None = None, views: int | None = None) -> Paid:
        """Return which of these answers the budget pays for.

        For attacks that find out what answers mean, which the attacker's own must not mislead: `told` gives those of
        the teacher alone, and `Paid.completed` adds the others.
        """
        pool = pool or self.pool
        index = np.arange(len(pool)) if only is None else sorted_(only)
        sets = [self.view_set(part, views) for part in kind.split("+")]
        wish = sum(s.count for s in sets) * len(index)
        left = self.spend(wish) if pool is self.pool else wish
        return pay(pool, sets, index, left, self.oracle.surface.kind, self.classes)

    def told(self, paid: Paid) -> Answers:
        """Return the teacher's answers about the views and images that a budget pays for."""
        self.oracle.charge(paid.queries)
        if not paid.queries and not paid.whole:
            return paid.own(torch.arange(0))
        ask = self._library or self._ask_all  # not stored: a lab that refers to itself would stay in memory
        return ask(paid.pool, paid.asked, paid.images)

    def completed(self, paid: Paid, told: Answers) -> Answers:
        """Return the teacher's answers and the attacker's own: as `Paid.completed` does, but in a file."""
        return told if paid.whole else self.stored(len(paid), paid.parts(told))

    def stored(self, count: int, parts: Iterable[Answers]) -> Answers:
        """Write `count` answers, part after part, to a file without a name; return them, to be read from there.

        For what is computed from many answers: it takes disk space while it is used, and no memory. Raises RefusedInput
        if the disk is full.
        """
        return AnswerFiles(Entries(self._folder)).joined("", count, parts).answers()

    def stream(
        self,
        kind: str,
        answers: AnswerRows | None = None,
        *,
        pool: Pool | None = None,
        only: Index | None = None,
        views: int | None = None,
        source: str = "original",
    ) -> StoredStream | JoinedStream:
        """Return batches of views with their answers; without answers, batches of labelled images only.

        `crop+strong` shows every image twice, in one view of each kind. The answers need not be about the same views:
        any answers in view-major order for as many views and images will do.
        """
        pool = pool or self.pool
        only = None if only is None else sorted_(only)
        if answers is None:
            only = pool.labelled if only is None else np.intersect1d(only, pool.labelled)
            if not len(only):
                raise UsageError("training without a teacher needs at least one labelled image")
        parts, start = [], 0
        for part in kind.split("+"):
            stored = self.view_set(part, views)
            stop = start + stored.count * (len(pool) if only is None else len(only))
            parts.append(
                StoredStream(
                    pool,
                    stored,
                    batch=self.recipe.batch,
                    seed=self.seed,
                    answers=None if answers is None else answers[start:stop],
                    only=only,
                    source=source,
                    device=self.device,
                )
            )
            start = stop
        if answers is not None and len(answers) != start:
            raise ValueError(f"{len(answers)} answers for {start} views of images")
        return parts[0] if len(parts) == 1 else JoinedStream(parts)

    def fit(self, stream: Stream, objective: Objective, recipe: Recipe | None = None) -> Student:
        """Train a freshly initialised student; only the last one trained is compared, earlier ones count as cost."""
        self.last = fit(
            recipe or self.recipe,
            stream,
            objective,
            self.seed,
            classes=self.classes,
            shape=self.pool.shape,
            device=self.device,
            progress=self._progress,
        )
        self.step_seconds += self.last.report.step_seconds
        return self.last


@dataclass(frozen=True, kw_only=True)
class Technique(ABC):
    """The base class of attacks and controls."""

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    version: ClassVar[int] = 1  # raising it makes stored students invalid
    published: ClassVar[str] = ""  # a verified figure from the paper, with its setting
    fidelity: ClassVar[Fidelity | None] = None  # None: it was not compared with its authors' code
    later: ClassVar[frozenset[str]] = frozenset()  # fields that came after students were stored

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return the settings to tune over, the default first; at most eight."""
        return (cls(),)

    @abstractmethod
    def run(self, lab: Lab) -> Student:
        """Train a student with what the lab holds."""

    @final
    def attempt(self, lab: Lab) -> Student:
        """Run under the lab's seed and check that the student is the last one that the lab trained."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(lab.seed)
            student = self.run(lab)
        if student is not lab.last:
            raise TypeError(f"{self.name} must return the student of its last call of lab.fit")
        return student

    @property
    def parameters(self) -> dict[str, Any]:
        """The hyperparameters as plain data; one that came `later` counts where it is not the default."""
        return counted(self, self.later)


@dataclass(frozen=True, kw_only=True)
class Attack(Technique):
    """A technique that trains a student from a black box's answers."""

    needs: ClassVar[Kind]  # the least an answer must hold
    holds: ClassVar[Holds]
    views: ClassVar[str | None] = None  # the stored views it asks about; None if it decides while it runs
    decodes: ClassVar[bool] = False  # whether it finds out what answers mean before it learns from them

    @classmethod
    def presets(cls) -> Mapping[str, Attack]:
        """Return named settings outside the grid, such as expensive ones: `--attacks NAME:paper` runs one, untuned."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Control(Technique):
    """A no-teacher baseline: it gets no oracle."""


def sorted_(only: Index) -> Index:
    """Return the indices; raise ValueError unless they increase strictly, since answers come in the pool's order."""
    if len(only) > 1 and not (np.diff(only) > 0).all():
        raise ValueError("`only` must be strictly increasing indices; sort them, and keep each once")
    return only


def draw(pool: Pool, count: int, seed: int) -> Index:
    """Draw images without replacement; return their sorted indices."""
    return np.sort(np.random.default_rng(seed).permutation(len(pool))[:count])
