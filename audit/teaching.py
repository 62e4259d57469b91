"""`audit teach`: make a teacher and write it where the user says."""

from __future__ import annotations

import sys
from pathlib import Path

from audit import plan, subjects
from audit.progress import Teller
from audit.store import Cache, default_cache
from teachers import datasets, intake, methods
from teachers.errors import UsageError
from teachers.networks import Preprocessed


def teach(
    name: str,
    out: Path,
    *,
    data: str,
    architecture: str | None,
    steps: int | None,
    seed: int,
    size: int | None,
    device: str,
    cache: Path | None,
) -> None:
    """Train a teacher, or take it from the cache, and write its checkpoint.

    Raises UsageError where the method, the architecture or the file's extension is unknown.
    """
    if out.suffix not in (".pt", ".pth", ".safetensors"):
        raise UsageError(f"--out {out} must end in .pt or .safetensors")
    plan.check_device(device)
    method, teller, kept = methods.method(name), Teller(), Cache(cache or default_cache())
    task = datasets.load(data, kept.root, size)
    lesson = methods.Lesson(method, methods.teacher_recipe(task, architecture, steps), seed)
    origin = str(Path(data).resolve()) if Path(data).is_dir() else data
    teacher = subjects.taught(lesson, task, subjects.Place(kept, device, teller.note), name=out.name)
    assert isinstance(teacher.network, Preprocessed)
    card = subjects.card(lesson, task, origin, teacher.network).model_copy(update={"size": size})
    intake.save_teacher(teacher.network, card, out)
    validation = subjects.validation_accuracy(teacher, task)
    print(f"{out}: {name} teacher, {validation:.1%} of {len(task.validation)} validation images", file=sys.stderr)
