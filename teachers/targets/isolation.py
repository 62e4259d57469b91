"""Hold the teachers of an audit in a process of their own, which no attack, plug-in or file shares."""

from __future__ import annotations

import select
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_args

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from teachers import intake
from teachers.errors import RefusedInput
from teachers.intake import Teacher
from teachers.names import SYNTHETIC
from teachers.notes import Note
from teachers.oracle import Ask
from teachers.processes import frames, limits, messages, pipes, trees
from teachers.processes.messages import MOST_CLASSES
from teachers.processes.pipes import Arrays, Limits, PipeError, Silence
from teachers.surface import FULL, Answers, Surface
from teachers.targets.probe import ProbeResult
from teachers.targets.process import TARGET_SPEC, ProbeAnswer, Role, TargetAnswer, TargetSpec, Which, serve
from teachers.targets.process import describe as describe
from teachers.targets.runtime import Runtime
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import Target, open_target
from teachers.task import Task

TRIES = 3  # times that one question is asked, at most, if the process is killed
KILLS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)  # by somebody else, or because memory ran out
LOST = 255  # the exit code reported when nobody waited for the process
SECONDS = 600.0  # for an answer, on top of the time that the network itself may take
OPENING = 86_400.0  # seconds to open, train or probe a teacher
LOOK = 15.0  # seconds between two checks of a silent process; if both find it stopped, it is restarted
NOTHING = Limits(0, 0)
Model = TypeVar("Model", bound=BaseModel)


class Targets(Protocol):
    """The audited teacher and the ordinary one; they are one object if the audited teacher is the ordinary one."""

    @property
    def audited(self) -> Target:
        """The teacher that is audited."""
        ...

    @property
    def ordinary(self) -> Target:
        """The positive control, trained when it is first needed."""
        ...

    def probe(self, top: np.ndarray) -> ProbeResult:
        """Probe the audited teacher; `top` (M,) holds its top class for each validation image."""
        ...

    def close(self) -> None:
        """Release the teachers' resources."""
        ...


@contextmanager
def one(spec: TeacherSpec, task: Task, weights: intake.Weights | None, runtime: Runtime) -> Iterator[Target]:
    """Open one teacher with full answers; a teacher that is a program runs in a process of its own."""
    if weights is None or not weights.is_program:
        yield open_target(spec, task, task.train, weights, FULL, 1, runtime)
        return
    wanted = TargetSpec(spec, FULL.name, 1, runtime.device)
    with closing(IsolatedTargets(spec, runtime.cache.root, runtime.note)) as apart:
        yield apart.open(wanted, runtime.cache.pool(task.train)).audited


def both(targets: Targets) -> list[Target]:
    """Return the teachers to attack: only one if the audited teacher is the ordinary one."""
    one, other = targets.audited, targets.ordinary
    return [one] if other is one else [one, other]


class IsolatedTargets:
    """Teachers in a process of their own: images go in, answers come out, and nothing else is reachable.

    The process opens the file and the data at the same time as this one, and builds the teacher when `open` is called.
    If the process is killed or stopped from outside, it is restarted and the question is repeated.
    """

    audited: Target

    def __init__(self, spec: TeacherSpec, cache: Path, note: Note) -> None:
        self._note, self._began = note, (spec, cache)
        self._opened: tuple[dict[str, Any], dict[str, Any]] | None = None  # the opening request and its reply
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = frames.pair()
        # Not a daemon: it opens files in a child of its own.
        self._process = trees.start(serve, theirs, *self._began, daemon=False)
        theirs.close()

    def open(self, wanted: TargetSpec, pool: Path) -> IsolatedTargets:
        """Build the audited teacher.

        Raises what opening its file raises.
        """
        asked = {"do": "open", "spec": TARGET_SPEC.dump_python(wanted, mode="json"), "pool": str(pool)}
        told = self._call(asked)[0]
        self._opened = asked, told
        heard = self._subject(told)
        built_in = wanted.teacher.teacher in SYNTHETIC  # from the request, not from the process's reply
        self.audited = replace(heard, teacher=replace(heard.teacher, synthetic=built_in))
        return self

    @cached_property
    def ordinary(self) -> Target:
        told = self._call({"do": "ordinary"})[0]
        return self.audited if told.get("target") is None else self._subject(told)

    def probe(self, top: np.ndarray) -> ProbeResult:
        told, arrays = self._call({"do": "probe"}, {"top": top}, most=Limits(5, limits.spare() // 2))
        about = self._parsed(ProbeAnswer, told)
        with self._understood():
            found: dict[str, Any] = {
                name: messages.fitting(arrays, name, dtype, shape, 0)
                for name, dtype, shape in (
                    ("repeated", "float16", (None,)),
                    ("regrouped", "float16", (None,)),
                    ("correct", "bool", (None,)),
                    ("duplicated", "bool", (None,)),
                    ("normalised", "bool", (len(about.normalised), None)),
                )
            }
        behind = dict(zip(about.normalised, found.pop("normalised"), strict=True))
        return ProbeResult(**about.model_dump(exclude={"normalised"}), **found, normalised=behind)

    def close(self) -> None:
        self._pipe.close()
        trees.end(self._process)

    def _call(
        self,
        header: dict[str, Any],
        arrays: Arrays | None = None,
        patience: float = OPENING,
        most: Limits = NOTHING,
    ) -> tuple[dict[str, Any], Arrays]:
        """Send a request and return the reply; repeat it if the process is killed.

        Raises the error that the process reports; RefusedInput if it dies by itself, stays silent or answers nonsense.
        """
        for _ in range(TRIES):
            try:
                return self._once(header, arrays, patience, most)
            except (EOFError, ConnectionError) as e:
                code = trees.end(self._process, after=5.0)
                if -code not in KILLS and code != LOST:
                    raise RefusedInput(f"{_end(code, arrays)}; the answers so far are kept") from e
            except PipeError as e:
                if not isinstance(e, Silence) or not trees.stopped(self._process):
                    raise RefusedInput(f"the teacher's process sent an invalid answer ({e})") from e
                trees.end(self._process)
            self._again()
        raise RefusedInput("the teacher's process died (out of memory?); the answers so far are kept")

    def _again(self) -> None:
        """Restart the process, and open the same teacher in it."""
        self._pipe.close()
        self._start()
        if self._opened is None:
            return
        asked, told = self._opened
        with suppress(EOFError, ConnectionError, Silence):  # killed again: the next question notices it
            if self._once(asked)[0] != told:
                raise RefusedInput("the teacher's process died, and the reopened one differs; start the audit again")

    def _once(
        self,
        header: dict[str, Any],
        arrays: Arrays | None = None,
        patience: float = OPENING,
        most: Limits = NOTHING,
    ) -> tuple[dict[str, Any], Arrays]:
        pipes.send(self._pipe, header, arrays, seconds=0)
        told, found = self._heard(most, patience)
        while "note" in told:
            self._note(str(told["note"])[: messages.SENTENCE])
            told, found = self._heard(most, patience)
        messages.raise_refusal(told)
        return told, found

    def _heard(self, most: Limits, patience: float) -> tuple[dict[str, Any], Arrays]:
        """Receive a message that begins within `patience` seconds; raise Silence if none does, or if it is stopped."""
        silent, stopped = 0.0, False
        while not frames.ready(self._pipe, select.POLLIN, min(LOOK, patience - silent)):
            silent, before, stopped = silent + LOOK, stopped, trees.stopped(self._process)
            if silent >= patience or (before and stopped):
                raise Silence("it sent nothing at all")
        return pipes.receive(self._pipe, most)

    def _parsed(self, model: type[Model], told: dict[str, Any]) -> Model:
        with self._understood():
            return messages.parse(model, told)

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except PipeError as e:
            raise RefusedInput(f"the teacher's process sent an invalid answer ({e})") from e

    def _subject(self, told: dict[str, Any]) -> Target:
        d = self._parsed(TargetAnswer, told).target
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
        return Target(d.role, teacher, surface, d.fingerprint, full, box, whole, d.behind, tried=d.tried)

    def _box(self, role: Role, which: Which) -> Ask:
        def ask(images: Tensor) -> Answers:
            question = {"do": "ask", "role": role, "which": which, "threads": torch.get_num_threads()}
            parts = 1 + len(images) // 16  # batches of up to 16 images
            patience = SECONDS + parts * limits.question(images.shape)
            most = Limits(2, min(limits.spare() // 2, 4 * images.numel() + 4 * len(images) * MOST_CLASSES))
            told, found = self._call(question, {"images": images.numpy()}, patience, most)
            with self._understood():
                return messages.heard(told, found, len(images), images.shape[1:])

        return ask


def _end(code: int, arrays: Arrays | None) -> str:
    images = (arrays or {}).get("images")
    asked = "a query" if images is None else f"a query of {len(images):,} images"
    if -code == signal.SIGALRM:
        return f"the teacher did not finish {asked} in its time, a minute or more; this model is broken"
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the teacher's process died on {asked} ({how})"
