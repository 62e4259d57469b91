"""Teachers that an attacker trains on their own images: their students learn nothing from the audited teacher.

Of the images of a pool they see those that have labels, for as many steps as any teacher of so many images. A twin has
the student's own architecture and is trained with label smoothing. There is one for every seed of a student, so that
what a twin owes to luck is in the scatter over seeds. A home-made teacher is the ordinary teacher of these images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from torch import Tensor

from teachers import methods
from teachers.intake import Teacher
from teachers.names import HOME_MADE, TWIN, own_teacher_digest
from teachers.oracle import Box
from teachers.surface import FULL, Answers, Surface
from teachers.targets.runtime import Runtime
from teachers.targets.target import Target
from teachers.targets.teaching import ordinary_teacher, taught
from teachers.task import Pool, Task

TWIN_METHOD = "label-smoothing"
TWIN_SEEDS = range(4_000, 5_000)  # by number; no student has one, so that none starts from a twin's initial weights


class LateBox:
    """A teacher that is trained, or read from the cache, when the first answer is needed that is not stored."""

    def __init__(self, opened: Callable[[], Teacher], surface: Surface, device: str) -> None:
        self._opened, self.surface, self._device = opened, surface, device

    def __call__(self, images: Tensor) -> Answers:
        """Answer images (N, C, H, W)."""
        return self._box(images)

    @cached_property
    def _box(self) -> Box:
        return Box(self._opened().here, self.surface, self._device)


def twin(task: Task, pool: Pool, student: str, number: int, surface: Surface, runtime: Runtime) -> Target:
    """Return a twin of a student architecture behind the surface of the audited teacher; `number`: from 0."""

    def opened() -> Teacher:
        held = holding(task, pool)
        recipe = methods.default_recipe(held, student)
        smoothed = methods.TeacherRecipe(methods.method(TWIN_METHOD), recipe, TWIN_SEEDS[number])
        return taught(smoothed, held, runtime, name=TWIN)

    mark = own_teacher_digest(TWIN, task.digest, pool.digest, student, runtime.device, number)
    return _target(TWIN, opened, mark, student, surface, runtime.device)


def home_made(task: Task, pool: Pool, surface: Surface, runtime: Runtime) -> Target:
    """Return the ordinary teacher of the attacker's own images."""

    def opened() -> Teacher:
        return ordinary_teacher(holding(task, pool), runtime, name=HOME_MADE)

    mark = own_teacher_digest(HOME_MADE, task.digest, pool.digest, "", runtime.device)
    return _target(HOME_MADE, opened, mark, "", surface, runtime.device)


def holding(task: Task, pool: Pool) -> Task:
    """Return the task whose training images are those of a pool that have labels."""
    return replace(task, train=pool.take(pool.labelled))


def _target(kind: str, opened: Callable[[], Teacher], mark: str, student: str, surface: Surface, device: str) -> Target:
    teacher = Teacher(kind, mark, None, student, kind, (0.0,), (1.0,), synthetic=True)
    full = LateBox(opened, FULL, device)
    return Target("audited", teacher, surface, mark, full, LateBox(opened, surface, device), full, control=True)
