"""Train a teacher by one of the methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from teachers import networks
from teachers.methods.base import Method, TeacherTraining, Weights
from teachers.methods.plain import Plain
from teachers.networks import PreprocessedNetwork
from teachers.task import Task, known
from teachers.training import Checkpointer, Recipe, Student

VERSION = 2  # of the training in `teach`: raising it makes cached teachers invalid


@dataclass(frozen=True)
class TeacherRecipe:
    """Everything but the data that determines a trained teacher."""

    method: Method
    recipe: Recipe
    seed: int = 0
    init: str = ""  # digest of the weights that replace the ordinary teacher's, if any


@dataclass(frozen=True)
class TrainedTeacher:
    """A finished teacher, and the figures that its method measures on it."""

    student: Student
    measured: dict[str, float]

    @property
    def network(self) -> PreprocessedNetwork:
        """The network, from raw pixels to logits."""
        assert isinstance(self.student.network, PreprocessedNetwork)
        return self.student.network


def default_recipe(task: Task, architecture: str | None = None, steps: int | None = None) -> Recipe:
    """Return the default recipe of an ordinary teacher for a task."""
    side = min(task.shape[1:])
    default = "strided-24-48-96" if side < 24 else "cnn-32-64-128" if side < 128 else "timm:mobilenetv3_small_050"
    epochs = 40 if side < 24 else 12
    steps = steps or max(600, round(epochs * len(task.train) / 128))
    return Recipe(architecture or default, steps, views=-(-steps * 128 // len(task.train)))


def default_student(task: Task) -> str:
    """Return the architecture of a task's students: small against its default teacher."""
    return "strided-8-16-32" if min(task.shape[1:]) < 24 else "strided-16-32-64"


def teach(
    teacher_recipe: TeacherRecipe,
    task: Task,
    *,
    plain: Callable[[], Weights] | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    checkpointer: Checkpointer | None = None,
) -> TrainedTeacher:
    """Train a teacher on the training split of a task, a fresh view every epoch.

    `plain` returns the weights of the ordinary teacher if a method needs one; by default that is trained as well.
    """
    known(task.train)
    name, k = teacher_recipe.recipe.architecture, len(task.classes)
    for each in (name, getattr(teacher_recipe.method, "pupil", name)):
        networks.try_out(networks.build(each, k, task.shape), each, k, task.shape)

    def ordinary() -> Weights:
        taught = teach(replace(teacher_recipe, method=Plain()), task, device=device)
        return taught.network.network.state_dict()

    trainer = TeacherTraining(
        task, teacher_recipe.recipe, teacher_recipe.seed, plain or ordinary, device, progress, checkpointer
    )
    student = teacher_recipe.method.teach(trainer)
    return TrainedTeacher(
        student, {} if student.report.diverged else teacher_recipe.method.measure(trainer, student.network.eval())
    )
