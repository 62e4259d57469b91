"""`audit teach`: train a teacher and write its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audit import folder
from audit.cache.store import Cache
from audit.trials import preparation
from reports.progress import ProgressReporter
from teachers import intake, methods, names, oracle
from teachers.data import datasets
from teachers.data.catalogue import EMBEDDED
from teachers.errors import RefusedInput, UsageError
from teachers.intake import Teacher
from teachers.networks import PreprocessedNetwork
from teachers.oracle import Box
from teachers.storage.store import default_cache
from teachers.targets import runtime, teaching
from teachers.targets.target import refuse_chance, validation_accuracy
from teachers.task import Task

OURS = "0.5/0.25"  # normalisation of the teachers that this tool trains


def teach(
    name: str,
    out: Path,
    *,
    data: str,
    architecture: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    settings: Sequence[str] = (),
    init: Path | None = None,
    size: int | None = None,
    device: str = "cpu",
    cache: Path | None = None,
) -> None:
    """Train a teacher, or read it from the cache, and write its checkpoint.

    Raises UsageError where the method, a setting, the architecture or the file's extension is unknown.
    """
    if out.suffix not in (".pt", ".pth", ".safetensors"):
        raise UsageError(f"--out {out} must end in .pt or .safetensors")
    preparation.check_device(device)
    folder.prepare(out.parent, (out.name,))
    method, progress, kept = methods.method(name, pairs(settings)), ProgressReporter(), Cache(cache or default_cache())
    if init is not None and not method.looks:
        lookers = ", ".join(n for n, m in methods.METHODS.items() if m.looks)
        raise UsageError(f"{name} does not use another teacher; leave --init out (methods that use one: {lookers})")
    with progress.during(f"opening {data}"):
        task = datasets.load(data, kept.root, size, note=progress.note)
    base = None if init is None else ordinary(init, task, architecture)
    recipe = methods.default_recipe(task, base.architecture if base else architecture, steps)
    teacher_recipe = methods.TeacherRecipe(method, recipe, seed, base.sha256 if base else "")
    given = data not in EMBEDDED and Path(data).is_dir()
    origin = str(Path(data).resolve()) if given else data
    with progress.during("teaching"):
        found = runtime.Runtime(kept, device, progress.note)
        teacher = teaching.taught(teacher_recipe, task, found, name=out.name, init=base)
    assert isinstance(teacher.network, PreprocessedNetwork)
    assert teacher.card is not None
    intake.save_teacher(teacher.network, teacher.card.model_copy(update={"data": origin, "size": size}), out)
    validation = validation_accuracy(teacher, task)
    progress.note(f"{out}: {name} teacher, {validation:.1%} of {len(task.validation)} validation images")
    for told, value in teacher.card.measured.items():
        progress.note(f"  {told}: {value:.3g} nats")


def pairs(settings: Sequence[str]) -> dict[str, str]:
    """Read `NAME=VALUE` settings.

    Raises UsageError for one without =.
    """
    for text in settings:
        if "=" not in text:
            raise UsageError(f"--set {text!r} is not NAME=VALUE, such as weight=0.5")
    return dict(text.split("=", 1) for text in settings)


def ordinary(path: Path, task: Task, architecture: str | None) -> Teacher:
    """Open the teacher that --init names: one that this tool trained, without a guard, or any other with --arch.

    Raises RefusedInput where it does not fit.
    """
    if str(path) in names.BUILT_IN and not path.exists():
        raise UsageError(f"--init takes a checkpoint, not {path}; without --init the ordinary teacher is used")
    weights = intake.open_weights(path)
    card = weights.card
    if weights.is_program:
        raise RefusedInput(f"--init {path} is a program without weights to start from; give its state dict")
    if card is None and architecture is None:
        raise UsageError(f"--init {path} does not state its architecture; give --arch")
    if card is not None and card.classes != task.classes:
        raise RefusedInput(f"--init {path} was trained on other classes than --data has, or in another order")
    if card is not None and card.guard:
        raise RefusedInput(f"--init {path} has an output defence ({card.guard}); give a teacher without one")
    name = architecture or (card.architecture if card else "")
    if card is not None and (card.mean, card.std, card.bgr) != intake.normalisation(OURS, task.shape[0]):
        raise RefusedInput(f"--init {path} normalises images as {card.normalize}, teachers trained here as {OURS}")
    teacher = intake.assemble(weights, name, len(task.classes), task.shape, OURS)
    refuse_chance(oracle.top_classes(Box(teacher.here), task.validation), task, f"--init {path}")
    return teacher
