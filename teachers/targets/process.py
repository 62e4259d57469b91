"""The code of the teacher's process: it holds the teachers and answers requests until its pipe closes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from teachers import intake, units
from teachers.errors import AuditError, RefusedInput
from teachers.intake import Card
from teachers.notes import Note
from teachers.processes import limits, messages, pipes
from teachers.processes.pipes import Arrays, Limits
from teachers.storage.store import Store, read_pool
from teachers.surface import Surface
from teachers.targets import probe as probes
from teachers.targets.identify import settled
from teachers.targets.probe import ProbeResult
from teachers.targets.runtime import Runtime
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import Target, open_ordinary, open_target, open_task
from teachers.task import Pool, Task

MEMORY = 8 * limits.GIB  # bytes that a teacher may use on top of six times its file's size
QUESTION = Limits(1, 2**40)
Role = Literal["audited", "ordinary"]
Which = Literal["full", "box", "whole"]


@dataclass(frozen=True)
class TargetSpec:
    """What the process opens: a teacher behind a surface, with the settings that its answers depend on."""

    teacher: TeacherSpec
    surface: str
    views: int
    device: str


TARGET_SPEC = TypeAdapter(TargetSpec)
Opened = tuple[Task, intake.Weights | None]


class InProcessTargets:
    """Teachers in this process."""

    def __init__(
        self,
        wanted: TargetSpec,
        task: Task,
        pool: Pool,
        weights: intake.Weights | None,
        runtime: Runtime,
        surface: Surface,
    ) -> None:
        self._task, self._runtime = task, runtime
        self.audited = open_target(wanted.teacher, task, pool, weights, surface, wanted.views, runtime)

    @cached_property
    def ordinary(self) -> Target:
        return open_ordinary(self.audited, self._task, self._runtime)

    def probe(self, top: np.ndarray) -> ProbeResult:
        return probes.probe(self.audited, self._task, top, self._runtime.device)

    def close(self) -> None:
        """Nothing is held."""


class TargetDescription(BaseModel):
    """A target as its process describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    name: str
    sha256: str
    architecture: str
    method: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool
    card: Card | None
    parameters: int | None
    surface: str
    fingerprint: str
    behind: str
    tried: int
    output: str


class TargetAnswer(BaseModel):
    """A target as a message."""

    target: TargetDescription


class ProbeAnswer(BaseModel):
    """A probe result as a message; its arrays travel beside it, those of all normalisations stacked in their order."""

    images: Annotated[int, Field(ge=0, le=10**9)]
    queries: Annotated[int, Field(ge=0, le=10**9)]
    softmaxed: bool
    saturated: Annotated[float, Field(ge=0, le=1)]
    normalised: list[str]


def _probed(found: ProbeResult) -> tuple[dict[str, Any], Arrays]:
    told = asdict(found)
    behind = told.pop("normalised")
    arrays = {name: told.pop(name) for name in ("repeated", "regrouped", "correct", "duplicated")}
    rights = np.stack(list(behind.values())) if behind else np.zeros((0, len(found.correct)), bool)
    return {**told, "normalised": list(behind)}, {**arrays, "normalised": rights}


def serve(pipe: Connection, spec: TeacherSpec, cache: Path) -> None:
    """Open the file and the data; hold the teachers and answer until the pipe closes."""
    held: InProcessTargets | None = None

    def note(line: str) -> None:
        pipes.send(pipe, {"note": line})

    kept = Store(cache, note)
    try:
        opened: Opened | AuditError = open_task(spec, kept)
    except AuditError as e:
        opened = e  # sent when the teacher is asked for

    while True:
        try:
            header, arrays = pipes.receive(pipe, QUESTION)
        except (EOFError, OSError):
            return
        try:
            held = held or _open(TARGET_SPEC.validate_python(header["spec"]), Path(header["pool"]), opened, kept, note)
            message = _done(held, header, arrays)
        except AuditError as e:
            message = messages.refusal(e), {}
        except Exception as e:  # a network that we did not write may raise anything when it answers
            message = messages.refusal(RefusedInput(_failed(e, arrays))), {}
        pipes.send(pipe, *message)


def _failed(error: Exception, arrays: Arrays) -> str:
    asked = f"a query of {len(arrays['images']):,} images" if "images" in arrays else "a query"
    said = " ".join(str(error).split())[:300]
    if isinstance(error, MemoryError) or "alloc" in said:
        said = f"it needs more memory than the {units.size(MEMORY, 0)} and the size of its file that it may take"
    return f"the teacher failed on {asked}: {type(error).__name__}: {said}"


def _open(wanted: TargetSpec, pool: Path, opened: Opened | AuditError, cache: Store, note: Note) -> InProcessTargets:
    if isinstance(opened, AuditError):
        raise opened
    task, weights = opened
    if wanted.device == "cpu":  # not on a GPU, whose driver reserves more than it uses
        size = sum(file.stat().st_size for file in _files(Path(wanted.teacher.teacher)))
        limits.hold_memory(min(3 * limits.spare() // 4, MEMORY + 6 * size))
    runtime = Runtime(cache, wanted.device, note)
    if weights is not None and weights.is_program:
        wanted = replace(wanted, teacher=settled(wanted.teacher, task, weights, runtime, programs=True))
    return InProcessTargets(wanted, task, read_pool(pool), weights, runtime, Surface.parse(wanted.surface))


def _files(path: Path) -> list[Path]:
    return [file for file in (path, *path.glob("*")) if file.is_file()]


def _done(held: InProcessTargets, header: dict[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
    if header["do"] == "ask":
        target = held.audited if header["role"] == "audited" else held.ordinary
        if header["threads"] != torch.get_num_threads():  # as many threads as the asking process uses
            torch.set_num_threads(header["threads"])
        return messages.told(getattr(target, header["which"])(torch.from_numpy(arrays["images"])))
    if header["do"] == "probe":
        return _probed(held.probe(arrays["top"]))
    target = held.audited if header["do"] == "open" else held.ordinary
    same = header["do"] == "ordinary" and target is held.audited
    return {"target": None if same else describe(target)}, {}


def describe(target: Target) -> dict[str, Any]:
    teacher = target.teacher
    return TargetDescription(
        role=target.role,
        name=teacher.name,
        sha256=teacher.sha256,
        architecture=teacher.architecture,
        method=teacher.method,
        mean=teacher.mean,
        std=teacher.std,
        bgr=teacher.bgr,
        card=teacher.card,
        parameters=teacher.parameters,
        surface=target.surface.name,
        fingerprint=target.fingerprint,
        behind=target.behind,
        tried=target.tried,
        output=teacher.output,
    ).model_dump(mode="json")
