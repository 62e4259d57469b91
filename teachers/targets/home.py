"""Teachers that an attacker trains on their own images: their students learn nothing from the audited teacher.

Of the images of a pool they see those that have labels, for as many steps as any teacher of so many images. A twin has
the student's own architecture and is trained with label smoothing; a home-made teacher is the ordinary teacher of these
images.
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
TWIN_SEED = 4_000  # no student has it, so that no student starts from the twin's initial weights


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


def twin(task: Task, pool: Pool, student: str, surface: Surface, runtime: Runtime) -> Target:
    """Return the twin of a student architecture behind the surface of the audited teacher."""

    def opened() -> Teacher:
        held = holding(task, pool)
        recipe = methods.default_recipe(held, student)
        smoothed = methods.TeacherRecipe(methods.method(TWIN_METHOD), recipe, TWIN_SEED)
        return taught(smoothed, held, runtime, name=TWIN)

    return _target(TWIN, opened, task, pool, student, surface, runtime)


def home_made(task: Task, pool: Pool, surface: Surface, runtime: Runtime) -> Target:
    """Return the ordinary teacher of the attacker's own images."""

    def opened() -> Teacher:
        return ordinary_teacher(holding(task, pool), runtime, name=HOME_MADE)

    return _target(HOME_MADE, opened, task, pool, "", surface, runtime)


def holding(task: Task, pool: Pool) -> Task:
    """Return the task whose training images are those of a pool that have labels."""
    return replace(task, train=pool.take(pool.labelled))


def _target(
    kind: str, opened: Callable[[], Teacher], task: Task, pool: Pool, student: str, surface: Surface, runtime: Runtime
) -> Target:
    device = runtime.device
    mark = own_teacher_digest(kind, task.digest, pool.digest, student, device)
    teacher = Teacher(kind, mark, None, student, kind, (0.0,), (1.0,), synthetic=True)
    full = LateBox(opened, FULL, device)
    return Target("audited", teacher, surface, mark, full, LateBox(opened, surface, device), full, control=True)
