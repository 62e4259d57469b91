"""The teachers of an audit: held by this process, or by one of their own that no attack, plug-in or file shares."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter
from torch import Tensor

from audit import subjects
from audit.checks import probes
from audit.execution import pipes
from audit.execution.pipes import Arrays
from audit.execution.store import Cache, read_pool
from audit.inspecting.identify import settled
from audit.protocol import Attacks
from audit.subjects import Note, Opening, Place, Subject
from reports.record import Probe
from teachers import errors, forks, intake
from teachers.errors import AuditError, RefusedInput
from teachers.intake import Card, Teacher
from teachers.oracle import Ask
from teachers.surface import FULL, Answers, Surface
from teachers.task import Pool, Task

Role = Literal["audited", "ordinary"]
Which = Literal["full", "box", "whole"]


class Faculty(Protocol):
    """The audited teacher and the ordinary one, which are one where the audited one is ordinary."""

    @property
    def audited(self) -> Subject:
        """The teacher that is audited."""
        ...

    @property
    def ordinary(self) -> Subject:
        """The positive control, taught when it is first wanted."""
        ...

    def probe(self, top: np.ndarray) -> Probe:
        """Look at the audited teacher; `top` (M,) is what it says of the validation images."""
        ...

    def close(self) -> None:
        """Give back what the teachers took."""
        ...


@contextmanager
def one(opening: Opening, task: Task, weights: intake.Weights | None, place: Place) -> Iterator[Subject]:
    """Open a teacher that shows all it has to the auditor; one that is a program in a process of its own."""
    if weights is None or not weights.is_program:
        yield subjects.open_subject(opening, task, task.train, weights, FULL, 1, place)
        return
    spec = Spec(opening, FULL.name, 1, place.device)
    with closing(Apart(opening, place.cache.root, place.note)) as apart:
        yield apart.open(spec, place.cache.pool(task.train)).audited


def both(faculty: Faculty) -> list[Subject]:
    """Return the teachers to attack: one, where the audited teacher is the ordinary one."""
    one, other = faculty.audited, faculty.ordinary
    return [one] if other is one else [one, other]


def offered(faculty: Faculty, attacks: Attacks) -> dict[str, Attacks]:
    """Return the attacks that each teacher's surface allows, by its role."""
    return {s.role: {n: a for n, a in attacks.items() if s.surface.offers(a.needs)} for s in both(faculty)}


@dataclass(frozen=True)
class Spec:
    """What is opened: a teacher behind a surface, for what an attacker holds of a task."""

    opening: Opening
    surface: str
    views: int
    device: str


SPEC = TypeAdapter(Spec)
Opened = tuple[Task, intake.Weights | None]


class Here:
    """Teachers in this process."""

    def __init__(
        self, spec: Spec, task: Task, pool: Pool, weights: intake.Weights | None, place: Place, surface: Surface
    ) -> None:
        self._task, self._place = task, place
        self.audited = subjects.open_subject(spec.opening, task, pool, weights, surface, spec.views, place)

    @cached_property
    def ordinary(self) -> Subject:
        return subjects.open_ordinary(self.audited, self._task, self._place)

    def probe(self, top: np.ndarray) -> Probe:
        return probes.probe(self.audited, self._task, top, self._place.device)

    def close(self) -> None:
        """Nothing is held."""


class Described(BaseModel):
    """A subject as its process tells of it."""

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


class Apart:
    """Teachers in a process of their own: images go in, answers come out, and nothing else can be had.

    The process opens the file and the data while this one does, and builds the teacher once it is said how.
    """

    audited: Subject

    def __init__(self, opening: Opening, cache: Path, note: Note) -> None:
        self._note = note
        self._pipe, theirs = forks.CONTEXT.Pipe()
        # Not a daemon: it opens files in a child of its own.
        self._process = forks.start(_teach, theirs, opening, cache, daemon=False)
        theirs.close()

    def open(self, spec: Spec, pool: Path) -> Apart:
        """Build the audited teacher.

        Raises what opening its file raises.
        """
        told = self._call({"do": "open", "spec": SPEC.dump_python(spec, mode="json"), "pool": str(pool)})[0]
        self.audited = self._subject(told)
        return self

    @cached_property
    def ordinary(self) -> Subject:
        told = self._call({"do": "ordinary"})[0]
        return self.audited if told["subject"] is None else self._subject(told)

    def probe(self, top: np.ndarray) -> Probe:
        return Probe.model_validate(self._call({"do": "probe"}, {"top": top})[0]["probe"])

    def close(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.join()

    def _call(self, header: dict[str, Any], arrays: Arrays | None = None) -> tuple[dict[str, Any], Arrays]:
        try:
            pipes.send(self._pipe, header, arrays)
            told, found = pipes.receive(self._pipe)
            while "note" in told:
                self._note(str(told["note"]))
                told, found = pipes.receive(self._pipe)
        except (EOFError, OSError) as e:
            raise RefusedInput("the teacher's process died (out of memory?); nothing that was stored is lost") from e
        if "refused" in told:
            raise getattr(errors, told["refused"])(told["sentence"])
        return told, found

    def _subject(self, told: dict[str, Any]) -> Subject:
        d = Described.model_validate(told["subject"])
        teacher = Teacher(
            d.name,
            d.sha256,
            None,
            d.architecture,
            d.method,
            d.mean,
            d.std,
            d.card,
            d.parameters,
            bgr=d.bgr,
            output=d.output,
        )
        surface = Surface.parse(d.surface)
        full, box, whole = (self._box(d.role, which) for which in get_args(Which))
        return Subject(d.role, teacher, surface, d.fingerprint, full, box, whole, d.behind, tried=d.tried)

    def _box(self, role: Role, which: Which) -> Ask:
        def ask(images: Tensor) -> Answers:
            question = {"do": "ask", "role": role, "which": which, "threads": torch.get_num_threads()}
            return pipes.heard(*self._call(question, {"images": images.numpy()}))

        return ask


def _teach(pipe: Connection, opening: Opening, cache: Path) -> None:
    """Open the file and the data; hold the teachers and answer until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=forks.die_with_parent, daemon=True).start()
    school: Here | None = None

    def note(line: str) -> None:
        pipes.send(pipe, {"note": line})

    kept = Cache(cache)
    try:
        opened: Opened | AuditError = subjects.open_task(opening, kept)
    except AuditError as e:
        opened = e  # told once it is asked for

    while True:
        try:
            header, arrays = pipes.receive(pipe)
        except (EOFError, OSError):
            return
        try:
            school = school or _open(SPEC.validate_python(header["spec"]), Path(header["pool"]), opened, kept, note)
            message = _done(school, header, arrays)
        except AuditError as e:
            message = {"refused": type(e).__name__, "sentence": str(e)}, {}
        pipes.send(pipe, *message)


def _open(spec: Spec, pool: Path, opened: Opened | AuditError, cache: Cache, note: Note) -> Here:
    if isinstance(opened, AuditError):
        raise opened
    task, weights = opened
    place = Place(cache, spec.device, note)
    if weights is not None and weights.is_program:
        spec = replace(spec, opening=settled(spec.opening, task, weights, place, programs=True))
    return Here(spec, task, read_pool(pool), weights, place, Surface.parse(spec.surface))


def _done(school: Here, header: dict[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
    if header["do"] == "ask":
        subject = school.audited if header["role"] == "audited" else school.ordinary
        if header["threads"] != torch.get_num_threads():  # as many as would answer in the process that asks
            torch.set_num_threads(header["threads"])
        return pipes.told(getattr(subject, header["which"])(torch.from_numpy(arrays["images"])))
    if header["do"] == "probe":
        return {"probe": school.probe(arrays["top"]).model_dump(mode="json")}, {}
    subject = school.audited if header["do"] == "open" else school.ordinary
    same = header["do"] == "ordinary" and subject is school.audited
    return {"subject": None if same else _described(subject)}, {}


def _described(subject: Subject) -> dict[str, Any]:
    teacher = subject.teacher
    return Described(
        role=subject.role,
        name=teacher.name,
        sha256=teacher.sha256,
        architecture=teacher.architecture,
        method=teacher.method,
        mean=teacher.mean,
        std=teacher.std,
        bgr=teacher.bgr,
        card=teacher.card,
        parameters=teacher.parameters,
        surface=subject.surface.name,
        fingerprint=subject.fingerprint,
        behind=subject.behind,
        tried=subject.tried,
        output=teacher.output,
    ).model_dump(mode="json")
