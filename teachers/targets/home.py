"""Teachers that an attacker trains on their own images: their students learn nothing from the audited teacher.

Of the images of a pool they see those that have labels, for as many steps as any teacher of so many images. A twin has
the student's own architecture and is trained with label smoothing. There is one for every seed of a student, so that
what a twin owes to luck is in the scatter over seeds. A home-made teacher is the ordinary teacher of these images.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from torch import Tensor

from teachers import methods
from teachers.intake import Teacher
from teachers.methods import TeacherRecipe
from teachers.names import HOME_MADE, TWIN, own_teacher_digest
from teachers.notes import silent
from teachers.oracle import Box
from teachers.processes import trees
from teachers.storage.store import Store
from teachers.surface import FULL, Answers, Surface
from teachers.targets.runtime import Runtime
from teachers.targets.target import Target
from teachers.targets.teaching import ordinary_recipe, recipe_key, taught
from teachers.task import Pool, Task

TWIN_METHOD = "label-smoothing"
LOOK = 5.0  # seconds between two looks at the processes that teach
TWIN_SEEDS = range(4_000, 5_000)  # by number; no student has one, so that none starts from a twin's initial weights


@dataclass(frozen=True)
class Lesson:
    """How an attacker trains a teacher of their own."""

    kind: str
    task: Task
    pool: Pool  # what the attacker holds of it
    runtime: Runtime
    student: str = ""  # the architecture of a twin
    number: int = 0  # of a twin

    def teach(self) -> Teacher:
        """Return the teacher: from the cache, or trained now."""
        return taught(self.recipe(), self._held, self.runtime, name=self.kind)

    def is_due(self) -> bool:
        """Whether the cache lacks the teacher."""
        key = recipe_key(self.recipe(), self._held, self.runtime.device)
        return not self.runtime.cache.teacher(key).exists()

    def silent(self) -> Lesson:
        """Return the same lesson without progress lines, as another process needs it."""
        return replace(self, runtime=replace(self.runtime, cache=Store(self.runtime.cache.root, silent), note=silent))

    @cached_property
    def _held(self) -> Task:
        return holding(self.task, self.pool)

    def recipe(self) -> TeacherRecipe:
        """Return how it is trained."""
        if self.kind == HOME_MADE:
            return ordinary_recipe(self._held)
        recipe = methods.default_recipe(self._held, self.student)
        return TeacherRecipe(methods.method(TWIN_METHOD), recipe, TWIN_SEEDS[self.number])


class LateBox:
    """A teacher that is trained, or read from the cache, when the first answer is needed that is not stored."""

    def __init__(self, lesson: Lesson, surface: Surface) -> None:
        self.lesson, self.surface = lesson, surface

    def __call__(self, images: Tensor) -> Answers:
        """Answer images (N, C, H, W)."""
        return self._box(images)

    @cached_property
    def _box(self) -> Box:
        return Box(self.lesson.teach().here, self.surface, self.lesson.runtime.device)


def teach_ahead(lessons: Iterable[Lesson], workers: int) -> None:
    """Train the teachers that the cache lacks, each in a process of its own, so many at a time.

    A lesson that fails there is repeated, and what is wrong with it told, when its first answer is needed.
    """
    due = deque(lesson.silent() for lesson in lessons if lesson.is_due())
    if len(due) < 2 or workers < 2:
        return
    running: list[BaseProcess] = []
    try:
        while due or running:
            running += [trees.start(_teach, due.popleft()) for _ in range(min(len(due), workers - len(running)))]
            wait([process.sentinel for process in running], LOOK)
            for process in filter(trees.stopped, running):  # from outside: it would never end
                trees.end(process)
            running = [process for process in running if process.is_alive()]
    finally:
        for process in running:
            trees.end(process)


def _teach(lesson: Lesson) -> None:
    lesson.teach()


def twin(task: Task, pool: Pool, student: str, number: int, surface: Surface, runtime: Runtime) -> Target:
    """Return a twin of a student architecture behind the surface of the audited teacher; `number`: from 0."""
    mark = own_teacher_digest(TWIN, task.digest, pool.digest, student, runtime.device, number)
    return _target(Lesson(TWIN, task, pool, runtime, student, number), mark, surface)


def home_made(task: Task, pool: Pool, surface: Surface, runtime: Runtime) -> Target:
    """Return the ordinary teacher of the attacker's own images."""
    mark = own_teacher_digest(HOME_MADE, task.digest, pool.digest, "", runtime.device)
    return _target(Lesson(HOME_MADE, task, pool, runtime), mark, surface)


def holding(task: Task, pool: Pool) -> Task:
    """Return the task whose training images are those of a pool that have labels."""
    whole = len(pool.labelled) == len(pool)
    return replace(task, train=pool if whole else pool.take(pool.labelled))


def _target(lesson: Lesson, mark: str, surface: Surface) -> Target:
    teacher = Teacher(lesson.kind, mark, None, lesson.student, lesson.kind, (0.0,), (1.0,), synthetic=True)
    full = LateBox(lesson, FULL)
    return Target("audited", teacher, surface, mark, full, LateBox(lesson, surface), full, control=True)
