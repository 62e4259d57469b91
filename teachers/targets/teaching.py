"""Train each teacher once: read it from the cache, or train it now and store it there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from filelock import FileLock

from teachers import methods
from teachers.errors import RefusedInput
from teachers.guards import GuardedNetwork
from teachers.intake import Card, Teacher
from teachers.methods.base import Weights
from teachers.methods.training import default_student
from teachers.names import BORN_AGAIN
from teachers.networks import PreprocessedNetwork
from teachers.notes import Note
from teachers.storage import parsers
from teachers.storage.entries import Content, DamagedEntry
from teachers.storage.store import TrainingCheckpoint
from teachers.targets.runtime import Runtime
from teachers.task import Task
from teachers.units import duration

TELL_EVERY = 30.0  # seconds
BORN_AGAIN_SEED = 5_000


def ordinary_recipe(task: Task) -> methods.TeacherRecipe:
    """Return how the task's plain teacher is trained."""
    return methods.TeacherRecipe(methods.method("plain"), methods.default_recipe(task))


def ordinary_teacher(task: Task, runtime: Runtime, name: str = "ordinary") -> Teacher:
    """Return the task's plain teacher, trained once."""
    return taught(ordinary_recipe(task), task, runtime, name=name)


def born_again(task: Task, runtime: Runtime) -> Teacher:
    """Return a student of the task that somebody trained without a teacher, with another seed than any twin."""
    recipe = methods.default_recipe(task, default_student(task))
    smoothed = methods.TeacherRecipe(methods.method("label-smoothing"), recipe, BORN_AGAIN_SEED)
    return taught(smoothed, task, runtime, name=BORN_AGAIN)


def taught(
    teacher_recipe: methods.TeacherRecipe, task: Task, runtime: Runtime, name: str, init: Teacher | None = None
) -> Teacher:
    """Return the teacher of a recipe: from the cache, or trained now and stored there.

    `init` replaces the ordinary teacher that some methods start from, avoid or copy.
    """
    path, entries = runtime.cache.teacher(recipe_key(teacher_recipe, task, runtime.device)), runtime.cache.entries

    def assembled(content: Content) -> Teacher:
        found = parsers.teacher(content, teacher_recipe.recipe.architecture, len(task.classes), task.shape)
        is_of = found.card and (found.card.method, found.card.seed, found.card.task_digest)
        if is_of != (teacher_recipe.method.name, teacher_recipe.seed, task.digest):
            raise DamagedEntry("holds a teacher that was trained by another recipe")
        return found

    key = path.relative_to(entries.root).as_posix()
    entries.make_room(key)
    with FileLock(path.with_suffix(".lock")):
        found = entries.read(key, assembled, "it is trained again")
        if found is None:
            unfinished = TrainingCheckpoint(path.with_suffix(".part"), entries=entries)
            entries.write(key, parsers.written(*_teach(teacher_recipe, task, runtime, init, unfinished)))
            found = entries.read(key, assembled, "it is trained again")
    if found is None:
        raise RefusedInput(f"{path} was written but cannot be read; give another --cache")
    return replace(found, name=name)


def _teach(
    teacher_recipe: methods.TeacherRecipe,
    task: Task,
    runtime: Runtime,
    init: Teacher | None,
    unfinished: TrainingCheckpoint,
) -> tuple[PreprocessedNetwork, Card]:
    recipe = teacher_recipe.recipe

    def ordinary() -> Weights:
        plain = methods.TeacherRecipe(methods.method("plain"), recipe, teacher_recipe.seed)
        teacher = init or taught(plain, task, runtime, name="ordinary")
        assert isinstance(teacher.network, PreprocessedNetwork)
        return teacher.network.network.state_dict()

    runtime.note(f"teaching {recipe.architecture} on {task.name} ({teacher_recipe.method.name}, {recipe.steps} steps)")
    threads = torch.get_num_threads()
    # Fixed, so that every machine trains the same teacher; small images gain nothing from a second thread.
    torch.set_num_threads(1 if min(task.shape[1:]) < 24 else 2)
    done = methods.teach(
        teacher_recipe,
        task,
        plain=ordinary,
        device=runtime.device,
        progress=_ticker(runtime.note),
        checkpointer=unfinished,
    )
    torch.set_num_threads(threads)
    unfinished.path.unlink(missing_ok=True)
    if done.student.report.diverged:
        raise RefusedInput(
            f"the {teacher_recipe.method.name} teacher diverged while training; give it another --seed, --arch or --set"
        )
    return done.network, card(teacher_recipe, task, task.name, done)


def _ticker(note: Note) -> Callable[[int, int], None]:
    """Return a callback that notes the training progress every TELL_EVERY seconds."""
    first: tuple[int, float] | None = None  # step and time of the first call: resumed training does not begin at step 0
    told = time.monotonic()

    def tick(step: int, steps: int) -> None:
        nonlocal first, told
        now = time.monotonic()
        first = first or (step, now)
        if now - told > TELL_EVERY and step > first[0]:
            told = now
            left = (now - first[1]) / (step - first[0]) * (steps - step)
            note(f"step {step} of {steps}, about {duration(left)} left")

    return tick


def recipe_key(teacher_recipe: methods.TeacherRecipe, task: Task, device: str) -> str:
    """Return everything that determines a trained teacher, as text."""
    parts = {
        "version": methods.VERSION,
        "method": teacher_recipe.method.name,
        "settings": teacher_recipe.method.settings,
        "recipe": teacher_recipe.recipe.settings,
        "seed": teacher_recipe.seed,
        "init": teacher_recipe.init,
        "device": device,
        "task": task.digest,
    }
    return json.dumps(parts, sort_keys=True)


def card(teacher_recipe: methods.TeacherRecipe, task: Task, data: str, taught: methods.TrainedTeacher) -> Card:
    """Describe a trained teacher, so that auditing its checkpoint needs no other option."""
    network = taught.network
    return Card(
        architecture=teacher_recipe.recipe.architecture,
        classes=task.classes,
        shape=task.shape,
        mean=tuple(network.mean.flatten().tolist()),
        std=tuple(network.std.flatten().tolist()),
        data=data,
        task_digest=task.digest,
        method=teacher_recipe.method.name,
        settings=teacher_recipe.method.settings,
        seed=teacher_recipe.seed,
        guard=network.network.told if isinstance(network.network, GuardedNetwork) else "",
        measured=taught.measured,
    )
