"""The ways to train a teacher, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from teachers import networks
from teachers.cmim import CMIM
from teachers.errors import UsageError
from teachers.label_smoothing import LabelSmoothing
from teachers.plain import Plain
from teachers.task import Task, known
from teachers.training import Recipe, StoredStream, Student, fit
from teachers.views import ViewSet

Method = Plain | LabelSmoothing | CMIM
METHODS: dict[str, type[Method]] = {method.name: method for method in (Plain, LabelSmoothing, CMIM)}

VERSION = 1  # of how `teach` trains: a new number makes cached teachers stale


@dataclass(frozen=True)
class Lesson:
    """All that determines a taught teacher but the data."""

    method: Method
    recipe: Recipe
    seed: int = 0


def method(name: str) -> Method:
    """Return a method with its default settings.

    Raises UsageError with near names where there is none of that name.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(METHODS)}"
        raise UsageError(f"unknown way to train a teacher {name!r}; {hint}")
    return METHODS[name]()


def teacher_recipe(task: Task, architecture: str | None = None, steps: int | None = None) -> Recipe:
    """Return the default recipe of an ordinary teacher for a task."""
    side = min(task.shape[1:])
    default = "strided-24-48-96" if side < 24 else "cnn-32-64-128"
    epochs = 40 if side < 24 else 12
    steps = steps or max(600, round(epochs * len(task.train) / 128))
    return Recipe(architecture or default, steps, views=-(-steps * 128 // len(task.train)))


def teach(lesson: Lesson, task: Task, *, device: str = "cpu", progress: Callable[[int], None] | None = None) -> Student:
    """Train a teacher on the training split of a task, a fresh view every epoch."""
    known(task.train)
    name, k = lesson.recipe.architecture, len(task.classes)
    networks.try_out(networks.build(name, k, task.shape), name, k, task.shape)
    views = ViewSet("crop" if task.train.augment.pad or task.train.augment.flip else "raw", lesson.recipe.views)
    stream = StoredStream(task.train, views, batch=lesson.recipe.batch, seed=lesson.seed, device=device)
    return fit(
        lesson.recipe, stream, lesson.method, lesson.seed, classes=k, shape=task.shape, device=device, progress=progress
    )
