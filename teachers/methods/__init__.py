"""The ways to train a teacher, by name: one file each."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from teachers import networks
from teachers.errors import UsageError
from teachers.methods.apgp import APGP
from teachers.methods.base import Method, TeacherTraining, Weights
from teachers.methods.cmim import CMIM
from teachers.methods.distilled import Distilled
from teachers.methods.label_smoothing import LabelSmoothing
from teachers.methods.mcmi import MCMI
from teachers.methods.mixed import CutMix, Mixup
from teachers.methods.nasty import Nasty
from teachers.methods.plain import Plain
from teachers.methods.purified import Purified
from teachers.methods.stingy import Stingy
from teachers.methods.student_friendly import StudentFriendly
from teachers.networks import PreprocessedNetwork
from teachers.task import Task, known
from teachers.training import Checkpointer, Recipe, Student

OURS: tuple[type[Method], ...] = (
    Plain,
    LabelSmoothing,
    Mixup,
    CutMix,
    Distilled,
    StudentFriendly,
    MCMI,
    CMIM,
    Nasty,
    Stingy,
    APGP,
    Purified,
)
METHODS = {method.name: method for method in OURS}

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


def method(name: str, settings: dict[str, str] | None = None) -> Method:
    """Return a method; `settings`, as text, replace its defaults.

    Raises UsageError, which suggests similar names, for an unknown method or setting, or a value that does not fit.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(METHODS)}"
        raise UsageError(f"unknown way to train a teacher {name!r}; {hint}")
    return METHODS[name](**_read(METHODS[name], settings or {}))


def _read(kind: type[Method], given: dict[str, str]) -> dict[str, Any]:
    defaults, types = {f.name: f.default for f in fields(kind)}, get_type_hints(kind, include_extras=True)
    read: dict[str, Any] = {}
    for name, text in given.items():
        if name not in defaults:
            there = f"there are {', '.join(defaults)}" if defaults else "it has none"
            raise UsageError(f"{kind.name} has no setting {name!r}; {there}")
        default = defaults[name]
        try:
            read[name] = TypeAdapter(types[name]).validate_python(
                text.split("/") if isinstance(default, tuple) else text
            )
        except ValidationError as e:
            reason = e.errors()[0]["msg"].removeprefix("Input ")
            raise UsageError(f"{kind.name}: {name}={text} {reason}; the default is {written(default)}") from None
    return read


def written(value: Any) -> str:
    """Return a setting's value as `--set` takes it."""
    return "/".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)


def default_recipe(task: Task, architecture: str | None = None, steps: int | None = None) -> Recipe:
    """Return the default recipe of an ordinary teacher for a task."""
    side = min(task.shape[1:])
    default = "strided-24-48-96" if side < 24 else "cnn-32-64-128" if side < 128 else "timm:mobilenetv3_small_050"
    epochs = 40 if side < 24 else 12
    steps = steps or max(600, round(epochs * len(task.train) / 128))
    return Recipe(architecture or default, steps, views=-(-steps * 128 // len(task.train)))


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
