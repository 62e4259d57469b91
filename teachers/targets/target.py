"""Open the task and the teacher that the command line names: a network, its surface and the box that answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from teachers import disguises, intake, synthetic
from teachers.data import datasets
from teachers.errors import RefusedInput, UsageError
from teachers.files import composed
from teachers.guards import GuardedNetwork, SurfaceGuard
from teachers.http import credentials
from teachers.http.address import USUAL, Address, is_address
from teachers.http.remote import Remote, RemoteBox
from teachers.http.v2 import declared
from teachers.http.wire import Wire
from teachers.intake import Card, Teacher, factories
from teachers.intake.channels import of_shape
from teachers.names import (
    BORN_AGAIN,
    BUILT_IN,
    CLASS_MEANS,
    DEMO,
    FAINT,
    FAINT_TRUTH,
    HALF_LEAK,
    HALF_SOFT,
    NOISY,
    PERMUTED,
    PLACEBO,
    REVERSED_ORDER,
    SIGN_FLIPS,
    SMOOTHING,
    STATEFUL,
    SYNTHETIC,
    TRUTH,
    quoted,
    truth_digest,
)
from teachers.networks import PreprocessedNetwork
from teachers.notes import Note, silent
from teachers.numbers import ENOUGH, WHOLE
from teachers.oracle import Ask, Box, top_classes
from teachers.proportions import majority, wilson
from teachers.storage.store import Store
from teachers.surface import FULL, Surface
from teachers.synthetic import HalfLeak, LabelMemory, Noisy, SmoothedTruth, Stateful, placebo
from teachers.targets import live, remote
from teachers.targets.runtime import Runtime
from teachers.targets.spec import LIVE, TeacherSpec
from teachers.targets.teaching import born_again, ordinary_teacher
from teachers.task import Pool, Task, known

# Synthetic teachers built on the ordinary teacher's network; they may treat the images that the attacker holds apart.
ALTERED: dict[str, Callable[[nn.Module, Task, LabelMemory], nn.Module]] = {
    PLACEBO: placebo,
    HALF_LEAK: lambda network, task, held: HalfLeak(network, held),
    NOISY: lambda network, task, held: Noisy(network),
    HALF_SOFT: lambda network, task, held: HalfLeak(network, held, SMOOTHING),
    STATEFUL: lambda network, task, held: Stateful(network, held),
    CLASS_MEANS: disguises.means,
    REVERSED_ORDER: disguises.reversed_order,
    PERMUTED: disguises.permuted,
    SIGN_FLIPS: disguises.sign_flips,
}

TRUTHS = {TRUTH: SMOOTHING, FAINT_TRUTH: FAINT}  # synthetic teachers that know labels alone, and how these are smoothed


@dataclass(frozen=True)
class Target:
    """A teacher as an audit uses it."""

    role: Literal["audited", "ordinary"]
    teacher: Teacher
    surface: Surface
    fingerprint: str
    full: Ask  # full answers, for the auditor's own measurements
    box: Ask  # answers through the surface, for attackers
    whole: Ask  # answers for which CMI is defined: those before a guard that hides classes
    behind: str = ""  # the name of that guard
    remote: Remote | None = None  # set if the teacher is behind a URL
    tried: int = 0  # images that it answered while it was identified
    control: bool = False  # whether it only answers controls: it knows no more than an attacker holds

    @property
    def portable(self) -> bool:
        """Whether a copy in another process gives the same answers: a network of known code, which counts nothing."""
        one = self.teacher
        known_code = not (one.program or one.code or one.synthetic)
        return isinstance(self.box, Box) and known_code and not self.control

    @property
    def slug(self) -> str:
        """The teacher's name as a folder name."""
        return slug(self.teacher.name)


def slug(name: str) -> str:
    """Return a teacher's name as a folder name."""
    stem = re.sub(r"\.(pt|pth|safetensors)$", "", name)
    return re.sub(r"[^0-9A-Za-z.-]+", "-", stem).strip("-.")[:60] or "teacher"


def open_task(spec: TeacherSpec, cache: Store, note: Note = silent) -> tuple[Task, intake.Weights | None]:
    """Load the data that the command line or the checkpoint names, with the number of channels that the network takes.

    Raises UsageError or RefusedInput with one sentence if neither names any, or if they differ.
    """
    if spec.teacher in BUILT_IN:
        if factories.is_factory(spec.architecture):
            raise UsageError(f"--arch makes the network of a checkpoint; {spec.teacher} is built in; leave it out")
        return datasets.load(spec.data or "glyphs", cache.root, spec.size, spec.channels, note), None
    if is_address(spec.teacher):
        return _remote_task(spec, cache, note), None
    if spec.teacher.startswith(LIVE):
        return _live_task(spec, cache, note), None
    weights = open_file(spec)
    card = weights.card
    if card is None and spec.data is None:
        raise UsageError(f"{spec.teacher} does not say what it was trained on; give --data")
    data = spec.data or (card.data if card else "")
    if spec.data is None:
        note(f"data: {data}, which {spec.teacher} names")
    size = spec.size or (card.size if card else None)
    task = datasets.load(data, cache.root, size, note=note)
    channels = weights.channels
    other = channels not in (None, task.shape[0])
    if other and weights.is_program and intake.answers(weights, len(task.classes), task.shape):
        channels = None  # the program accepts the images as they are
    task = _in_channels(task, channels, spec, data, size, cache, note)
    if card is not None:
        _agree(card, task, spec)
    return task, weights


def _live_task(spec: TeacherSpec, cache: Store, note: Note) -> Task:
    if spec.live is None:
        raise UsageError(f"{spec.teacher} was an object of a Python program; call audit.run with that object again")
    if spec.data is None:
        raise UsageError(f"{spec.teacher} does not say what it was trained on; give data")
    for name, value in (("arch", spec.architecture), ("weights", spec.weights)):
        if value is not None:
            raise UsageError(f"{name} is for a checkpoint; {spec.teacher} is a network already; leave it out")
    return datasets.load(spec.data, cache.root, spec.size, note=note)


def open_file(spec: TeacherSpec) -> intake.Weights:
    """Open the checkpoint that the command line names.

    Raises UsageError for options that only a URL takes, and whatever `intake.open_weights` raises.
    """
    output = spec.service.output
    if replace(spec.service, output="") != USUAL:
        raise UsageError(
            f"--input, --header and --plain-http are for a teacher behind a URL; {spec.teacher} is not a URL"
        )
    path, architecture = Path(spec.teacher), spec.architecture
    if architecture is not None and factories.is_factory(architecture):
        weights = factories.open_for(path, architecture, spec.trust, spec.weights)
    else:
        weights = intake.open_weights(path, spec.trust, spec.weights)
    if output and not weights.is_program:
        raise UsageError(f"--output {output}: {spec.teacher} holds tensors, whose network has one output; leave it out")
    return replace(weights, output=output)


def _in_channels(
    task: Task, channels: int | None, spec: TeacherSpec, data: str, size: int | None, cache: Store, note: Note
) -> Task:
    """Load the task again with 1 or 3 channels if the network needs the other number; None changes nothing."""
    if channels is None or channels == task.shape[0] or task.shape[0] not in (1, 3):
        return task
    how = "gray images are read in colour" if channels == 3 else "images with colours are read as gray"
    note(f"{spec.teacher} takes {channels} channel{'s' * (channels > 1)}: {how}")
    return datasets.load(data, cache.root, size, channels)


def _remote_task(spec: TeacherSpec, cache: Store, note: Note) -> Task:
    address = Address.parse(spec.teacher, spec.service.plain)
    credentials.headers(spec.service.headers)  # reports a missing header before anything is loaded
    if spec.data is None:
        raise UsageError("a teacher behind a URL does not say what it was trained on; give --data")
    if spec.architecture is not None:
        raise UsageError("--arch names the network of a checkpoint; a teacher behind a URL has its own; leave it out")
    if spec.weights is not None:
        raise UsageError("--weights chooses a network in a checkpoint; a teacher behind a URL has one; leave it out")
    task = datasets.load(spec.data, cache.root, spec.size, note=note)
    channels = of_shape(declared(Wire(address, note, spec.service).get(), spec.service))
    return _in_channels(task, channels, spec, spec.data, spec.size, cache, note)


def _agree(card: Card, task: Task, spec: TeacherSpec) -> None:
    if tuple(map(composed, card.classes)) != tuple(map(composed, task.classes)):
        raise RefusedInput(
            f"{spec.teacher} was trained on {len(card.classes)} classes ({_some(card.classes)}) but the data has "
            f"{len(task.classes)} ({_some(task.classes)}); give the --data it was trained for"
        )
    if card.shape != task.shape:
        raise RefusedInput(f"{spec.teacher} takes images of shape {card.shape}, the data has {task.shape}")
    if spec.data is None and card.task_digest != task.digest:
        raise RefusedInput(
            f"the data at {card.data} is not what {spec.teacher} was trained on (it has changed since); "
            "name it with --data to audit on it anyway"
        )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(map(quoted, names[:4])) + (", …" if len(names) > 4 else "")


def open_target(
    spec: TeacherSpec,
    task: Task,
    pool: Pool,
    weights: intake.Weights | None,
    surface: Surface,
    views: int,
    runtime: Runtime,
) -> Target:
    """Build the audited teacher."""
    if spec.teacher == DEMO:
        return _target("audited", ordinary_teacher(task, runtime, name=DEMO), surface, runtime.device)
    if spec.teacher == BORN_AGAIN:
        return _target("audited", born_again(task, runtime), surface, runtime.device)
    if spec.teacher in TRUTHS:
        name, classes = spec.teacher, len(task.classes)
        return smoothed_truth(pool, classes, views, runtime.device, surface, TRUTHS[name], name)
    if spec.teacher in SYNTHETIC:
        return altered(spec.teacher, task, pool, views, surface, runtime)
    if is_address(spec.teacher):
        return behind_url(spec, task, surface, runtime)
    tried = spec.tried
    if spec.live is not None:
        card, teacher = None, live.opened(spec.live, task, spec.normalize)
        tried += len(task.train) + len(task.validation)
    else:
        assert weights is not None
        card = weights.card
        architecture = spec.architecture or (card.architecture if card else "")
        normalize = spec.normalize or (card.normalize if card else "none")
        teacher = intake.assemble(weights, architecture, len(task.classes), task.shape, normalize)
    if card is None:
        teacher, looked = _as_logits(teacher, task, runtime)
        tried += looked
    if spec.classes:
        teacher = intake.reordered(teacher, spec.classes, task.classes)
    return replace(_target("audited", teacher, surface, runtime.device), tried=tried)


def _as_logits(teacher: Teacher, task: Task, runtime: Runtime) -> tuple[Teacher, int]:
    """Recognise a network's output type on some validation images; return a teacher of logits, and their number."""
    some = task.validation.images[:ENOUGH]
    x = torch.from_numpy(some).float().div_(255).to(runtime.device)
    teacher.here.to(runtime.device)
    found = intake.outputs(teacher, x)
    if found is not None and found.output in WHOLE:
        runtime.note(f"{teacher.name} answers with {found.told}")
    return intake.as_logits(teacher, found), len(some)


def behind_url(spec: TeacherSpec, task: Task, surface: Surface, runtime: Runtime) -> Target:
    """Open a teacher behind a URL, which attackers and the auditor ask in the same way."""
    order = intake.order_of(spec.classes, task.classes) if spec.classes else ()
    found = remote.connect(spec.teacher, spec.normalize, task, runtime.cache, runtime.note, spec.service, order)
    kept = remote.store(found, runtime.cache, len(task.classes))
    # Two counters of repetitions, so that images asked about for accuracy are not sent again when CMI is measured.
    full, whole = (remote.CachedAnswers(RemoteBox(found), kept) for _ in range(2))
    name, mark = found.address.name, found.fingerprint
    teacher = Teacher(name, mark, None, found.platform or "unknown", "unknown", *found.normalise, order=order)
    return Target("audited", teacher, surface, mark, full, RemoteBox(found, surface), whole, remote=found)


def smoothed_truth(
    pool: Pool,
    classes: int,
    views: int,
    device: str,
    surface: Surface = FULL,
    smoothing: float = SMOOTHING,
    name: str = TRUTH,
) -> Target:
    """Build the teacher that answers a pool's images and their crop views with smoothed labels."""
    return _smoothed_truth(LabelMemory(pool, views), pool, classes, views, device, surface, smoothing, name)


def smoothed_truths(
    pool: Pool, classes: int, views: int, device: str, smoothings: Sequence[float], surface: Surface = FULL
) -> dict[float, Target]:
    """Build such teachers of several smoothings, which share one memory of the labels; by ε."""
    held = LabelMemory(pool, views)
    told = {e: _smoothed_truth(held, pool, classes, views, device, surface, e, TRUTH) for e in smoothings}
    return {e: replace(target, control=True) for e, target in told.items()}


def _smoothed_truth(
    held: LabelMemory,
    pool: Pool,
    classes: int,
    views: int,
    device: str,
    surface: Surface,
    smoothing: float,
    name: str,
) -> Target:
    sha256, network = truth_digest(pool.digest, views, smoothing), SmoothedTruth(held, classes, smoothing)
    teacher = Teacher(name, sha256, network, name, name, (0.0,), (1.0,), synthetic=True)
    return _target("audited", teacher, surface, device)


def altered(name: str, task: Task, pool: Pool, views: int, surface: Surface, runtime: Runtime) -> Target:
    """Build a synthetic teacher that alters what the task's ordinary teacher answers."""
    ordinary = ordinary_teacher(task, runtime)
    text = f"{name} {synthetic.VERSION} {fingerprint(ordinary)} {pool.digest} {views}"
    network = ALTERED[name](ordinary.here, task, LabelMemory(pool, views))
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    teacher = Teacher(name, sha256, network, name, name, ordinary.mean, ordinary.std, synthetic=True)
    return _target("audited", teacher, surface, runtime.device)


def open_ordinary(audited: Target, task: Task, runtime: Runtime) -> Target:
    """Build the positive control: an ordinary teacher that answers with full probabilities.

    It gives input gradients if the audited teacher does, so that attacks that use them can pass the positive control.
    """
    surface = audited.surface if audited.surface.kind == "gradients" else FULL
    if audited.teacher.name == DEMO and audited.surface == surface:
        return audited
    ordinary = _target("ordinary", ordinary_teacher(task, runtime), surface, runtime.device)
    same = ordinary.fingerprint == audited.fingerprint and audited.surface == surface
    return audited if same else ordinary


def _target(role: Literal["audited", "ordinary"], teacher: Teacher, surface: Surface, device: str) -> Target:
    full = whole = Box(teacher.here, device=device)
    behind, shown = "", Box(teacher.here, surface, device)
    outer = teacher.here
    guarded = outer.network if isinstance(outer, PreprocessedNetwork) else None
    if (
        isinstance(outer, PreprocessedNetwork)
        and isinstance(guarded, GuardedNetwork)
        and isinstance(guarded.guard, SurfaceGuard)
    ):
        whole = Box(outer.around(guarded.network), device=device)
        behind = guarded.told
    return Target(role, teacher, surface, fingerprint(teacher), full, shown, whole, behind)


def fingerprint(teacher: Teacher) -> str:
    """Return a digest of everything that determines the answers; the file's name and container do not enter."""
    more = " bgr" * teacher.bgr + (f" {teacher.order}" if teacher.order else "")
    more += f" {teacher.output}" if teacher.output in WHOLE else ""
    more += f" output {teacher.named}" if teacher.named else ""
    more += f" code {teacher.code}" if teacher.code else ""  # the user's own code determines the answers, too
    if teacher.program:  # its code determines the answers, not its tensors alone
        return hashlib.sha256(f"{teacher.sha256} {teacher.mean} {teacher.std}{more}".encode()).hexdigest()
    tensors = teacher.here.state_dict()
    if (not tensors and not teacher.code) or teacher.synthetic:
        return teacher.sha256
    guard = teacher.card.guard if teacher.card else ""
    h = hashlib.sha256(f"{teacher.architecture} {teacher.mean} {teacher.std}{guard and f' {guard}'}{more}".encode())
    for name in sorted(tensors):
        h.update(name.encode() + tensors[name].cpu().contiguous().numpy().tobytes())
    return h.hexdigest()


def refuse_chance(top: np.ndarray, task: Task, name: str) -> None:
    """Stop an audit whose teacher is no better on validation images than always naming the largest class."""
    labels = known(task.validation)
    hits, largest = int((top == labels).sum()), majority(labels)
    if wilson(hits, len(labels))[0] > largest:
        return
    raise RefusedInput(
        f"{name} names {hits / len(labels):.1%} of {len(labels)} validation images correctly, no better than always "
        f"naming the largest class ({largest:.1%}); its class order or its normalisation is probably another: "
        "check --data, --normalize and --classes"
    )


def validation_accuracy(teacher: Teacher, task: Task) -> float:
    """Return a teacher's accuracy on validation images."""
    return float((top_classes(Box(teacher.here), task.validation) == known(task.validation)).mean())
