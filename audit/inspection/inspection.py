"""`audit inspect`: find out what a checkpoint is and how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from audit.cache.store import Cache
from audit.plan.options import Options, teacher_spec
from audit.trials import preparation
from reports.progress import ProgressReporter
from teachers import intake, names, oracle
from teachers.errors import AuditError, RefusedInput, UsageError
from teachers.intake.architecture import Candidate
from teachers.numbers import kind
from teachers.proportions import wilson
from teachers.storage.store import default_cache
from teachers.surface import FULL
from teachers.targets import candidates as fitting
from teachers.targets import identify, probe
from teachers.targets.identify import Identification
from teachers.targets.isolation import one
from teachers.targets.runtime import Runtime
from teachers.targets.selection import Choice
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import Target, open_file, open_target, open_task
from teachers.task import Task, known

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # buffers of batch norm
SIDE = 32  # side in pixels of noise images, for networks that take any size


@dataclass(frozen=True)
class Accuracy:
    """Number of test images that a network classifies correctly, with a 95 % Wilson interval of the share."""

    images: int
    right: int
    low: float
    high: float


@dataclass(frozen=True)
class Inspection:
    """Description of a checkpoint; None where something is unknown."""

    file: str
    format: str
    sha256: str
    bytes: int
    architecture: str | None
    candidates: tuple[str, ...]  # architectures that fit its tensors, likeliest first
    parameters: int | None  # of the network; where it is unknown, of its tensors without statistics of batch norm
    classes: int | None
    channels: int | None
    size: int | None  # pixels per side
    fixed: bool  # whether the network takes only this size
    outputs: str | None  # logits, probabilities, percentages or log-probabilities
    heads: tuple[str, ...]  # of a program with several outputs: the name of each, and how many numbers it has
    normalize: str | None
    choice: Choice | None  # how the normalisation was chosen
    order: tuple[str, ...]  # class names in output order, where this differs from the data's order
    accuracy: Accuracy | None
    undecided: str  # what the user must still specify: a sentence without its subject
    changes: tuple[str, ...] = ()  # how the checkpoint's tensor names were mapped to the network's
    weights: str = ""  # which of several sets of weights was used, as a sentence
    left_over: str = ""  # which tensors belong to no network, as a sentence
    given: bool = False  # whether data was given
    data: tuple[str, ...] = ()  # which part of the data was used and what was left out, one line each


def inspect(options: Options) -> Inspection:
    """Open a checkpoint and describe it; with data, also find out how to use it.

    Raises RefusedInput where it cannot be opened, UsageError or RefusedInput where it does not fit the data.
    """
    spec, device, cache = teacher_spec(options), options.device, options.cache
    preparation.check_device(device)
    if spec.teacher in names.BUILT_IN:
        raise UsageError(f"{spec.teacher} is a built-in teacher, not a file; see `audit ls teachers`")
    path = Path(spec.teacher)
    weights = open_file(spec)
    bare = Inspection(
        file=path.resolve().name,
        format=weights.kind,
        sha256=weights.sha256,
        bytes=sum(f.stat().st_size for f in (path.rglob("*") if path.is_dir() else [path])),
        architecture=None,
        candidates=(),
        parameters=None if weights.is_program else sum(map(Tensor.numel, _learned(weights.tensors))),
        classes=None,
        channels=None,
        size=None,
        fixed=False,
        outputs=None,
        heads=(),
        normalize=spec.normalize or (weights.card.normalize if weights.card else None),
        choice=None,
        order=spec.classes,
        accuracy=None,
        undecided="",
        weights=weights.taken,
        given=spec.data is not None,
    )
    if weights.is_program:
        return _program(bare, weights, spec, device, Cache(cache or default_cache()))
    try:
        fits = fitting.candidates(weights, spec)
    except UsageError as e:
        return replace(bare, undecided=str(e).removeprefix(f"{path} "))
    first = fits[0]
    told = replace(
        bare,
        candidates=tuple(c.name for c in fits),
        classes=first.classes,
        channels=first.channels,
        size=first.size,
        fixed=first.fixed,
        changes=first.changes,
        left_over=first.left_over,
    )
    if spec.data is None:
        return _without_data(told, weights, fits, device)
    runtime, lines = Runtime(Cache(cache or default_cache()), device, lambda line: None), list[str]()
    task, _ = open_task(spec, runtime.cache, lines.append)
    sized = replace(told, data=tuple(lines), classes=len(task.classes), channels=task.shape[0], size=task.shape[1])
    return _on_data(sized, weights, spec, task, runtime)


def _program(told: Inspection, weights: intake.Weights, spec: TeacherSpec, device: str, cache: Cache) -> Inspection:
    """Run an exported program on the test images of the data, if there are any, in a process of its own."""
    if spec.data is None:
        return _explored(told, weights)
    lines: list[str] = []
    task, _ = open_task(spec, cache, lines.append)
    told = replace(told, classes=len(task.classes), channels=task.shape[0], size=task.shape[1], data=tuple(lines))
    try:
        return _run(told, weights, spec, task, Runtime(cache, device, ProgressReporter(False).note))
    except UsageError as e:  # such as that several normalisations are as good: what is known stays
        return replace(told, undecided=str(e).removeprefix(f"{weights.path} "), data=tuple(lines))


def _run(told: Inspection, weights: intake.Weights, spec: TeacherSpec, task: Task, runtime: Runtime) -> Inspection:
    with one(spec, task, weights, runtime) as target:
        teacher = target.teacher
        used = intake.Normalisation(teacher.mean, teacher.std, teacher.bgr)
        named = (text for text, given in probe.normalisations(task).items() if probe.same(given, used))
        return replace(
            told,
            architecture=teacher.architecture,
            parameters=teacher.parameters or 0,
            outputs=teacher.output or None,
            normalize=spec.normalize or next(named, None),
            accuracy=counted(target, task),
        )


def _explored(told: Inspection, weights: intake.Weights) -> Inspection:
    """Ask a program about noise: which images it takes, and what it puts out."""
    if weights.factory:
        return replace(told, undecided="brings its own network; give --data to see what it answers")
    try:
        found = intake.explored(weights)
    except RefusedInput as e:
        return replace(told, undecided=f"was not run: {e}")
    (first, *others), (channels, size, _) = found.heads, found.shape
    heads = (f"{head.name} ({head.numbers:,} numbers, {head.kind})" for head in found.heads)
    return replace(
        told,
        architecture=weights.program,
        parameters=found.parameters,
        classes=first.numbers,
        channels=channels,
        size=size,
        fixed=found.fixed,
        outputs=first.kind,
        heads=tuple(heads) if others else (),
    )


def _learned(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the tensors of a state dict that a network would call parameters: batch norm's statistics are none."""
    return [t for name, t in tensors.items() if name.rpartition(".")[2] not in STATISTICS]


def counted(target: Target, task: Task) -> Accuracy:
    """Count the test images that a teacher classifies correctly."""
    labels = known(task.test)
    right = int((oracle.top_classes(target.full, task.test) == labels).sum())
    return Accuracy(len(labels), right, *wilson(right, len(labels)))


def _without_data(told: Inspection, weights: intake.Weights, fits: Sequence[Candidate], device: str) -> Inspection:
    """Load a checkpoint into the networks that it fits, and compare their answers to noise."""
    first = fits[0]
    if first.classes is None:
        return replace(told, architecture=first.name, undecided="was not loaded; give --data")
    arm = first.size or SIDE
    noise = torch.rand(fitting.LOOKED, first.channels, arm, arm, generator=torch.Generator().manual_seed(0))
    try:
        loaded = fitting.apart(weights, [c.name for c in fits], first.classes, noise, device)
    except AuditError as e:
        return replace(told, undecided=f"was not loaded: {e}")
    name, one = next(iter(loaded.items()))
    told = replace(told, outputs=kind(one.raw), parameters=one.teacher.parameters or 0)
    if len(loaded) > 1:
        return replace(
            told, undecided=f"fits {', '.join(loaded)}, which answer differently; give --data or --arch to choose"
        )
    return replace(told, architecture=name)


def _on_data(told: Inspection, weights: intake.Weights, spec: TeacherSpec, task: Task, runtime: Runtime) -> Inspection:
    """Find out how to use a checkpoint on validation images, and count its correct answers on test images."""
    if weights.card is None:
        found = identify.identify(weights, spec, task, runtime.device)
        told = _as_found(told, found, task)
        spec = replace(spec, architecture=found.architecture, normalize=found.normalize)
        if found.permutation is not None or found.undecided:
            return told
    target = open_target(spec, task, task.train, weights, FULL, 1, runtime)
    x = torch.from_numpy(task.validation.images[: fitting.LOOKED]).float().div_(255).to(runtime.device)
    return replace(
        told,
        architecture=target.teacher.architecture,
        outputs=target.teacher.output or kind(probe.raw(target.teacher.here, x)),
        parameters=target.teacher.parameters or 0,
        accuracy=counted(target, task),
    )


def _as_found(told: Inspection, found: Identification, task: Task) -> Inspection:
    other = found.permutation
    return replace(
        told,
        architecture=found.architecture,
        normalize=found.normalize,
        choice=found.choice,
        order=tuple(task.classes[c] for c in other.classes) if other else told.order,
        undecided=identify.another_order(other, task) if other else found.undecided,
    )
