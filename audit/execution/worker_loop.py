"""Main loop of a worker process: it receives cells, trains one after the other, and sends queries through its pipe."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from audit.execution import cards, worker_messages
from audit.execution.worker import Job, failure, train
from audit.plan.cells import Cell, Failure
from teachers import units
from teachers.errors import RefusedInput
from teachers.processes import limits, messages, pipes
from teachers.processes.pipes import Arrays, Limits
from teachers.storage.mapped import Form
from teachers.storage.store import Rows
from teachers.surface import Answers
from teachers.views import ViewSet

EVERY = 2.0  # at least, seconds between two messages that training goes on


class _Line:
    """The worker's side of the metered oracle: sends queries through the pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._spoke = time.monotonic()

    def views(self, pool: str, sets: Sequence[ViewSet], index: Rows) -> Answers:
        asked = [{"kind": one.kind, "count": one.count} for one in sets]
        header, _ = self._ask({"pool": pool, "sets": asked}, {"index": index})
        file = pipes.accept(self._pipe)
        try:
            return messages.parse(Form, header).answers(file)
        finally:
            os.close(file)

    def images(self, images: Tensor, estimate: bool = False) -> Answers:
        header, answers = self._ask({"estimate": estimate}, {"images": images.float().numpy()})
        return messages.heard(header, answers, len(images), tuple(images.shape[1:]))

    def step(self, step: int) -> None:
        """Tell the parent at intervals that training goes on."""
        if time.monotonic() - self._spoke >= EVERY:
            self._spoke = time.monotonic()
            pipes.send(self._pipe, {"say": "step"})

    def _ask(self, question: dict[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
        pipes.send(self._pipe, {"say": "ask", **question}, arrays)
        header, answers = pipes.receive(self._pipe, Limits(arrays=2, size=2**40))
        messages.raise_refusal(header)
        return header, answers


def work(pipe: Connection, memory: int) -> None:
    """Train cells from the pipe until it closes; `memory`: limit in bytes (0: none)."""
    if memory:
        limits.hold_memory(memory, mapping=True)
    torch.set_num_threads(1)
    while True:
        try:
            header, _ = pipes.receive(pipe)
            job = Job.model_validate(header["job"])
            line = _Line(pipe)
            message = _outcome(job, line, bool(header["door"]), memory)
            pipes.send(pipe, *message)
        except (EOFError, ConnectionError):
            return
        gc.collect()  # a cell leaves nothing behind for the next one


def _outcome(job: Job, line: _Line, door: bool, memory: int) -> tuple[dict[str, Any], Arrays]:
    try:
        trained = train(job, line if door else None, line.step)
        return worker_messages.finished(trained.report), trained.weights
    except (EOFError, ConnectionError):  # the parent is gone
        raise
    # An attack may be plug-in code: whatever it raises is a failed attack, never an attack survived.
    except (Exception, SystemExit) as e:
        told = _told(_failure(job.cell, e, memory)) | {"crowded": cards.crowded(e)}
        return {"say": "failed", "failure": told}, {}


def _failure(cell: Cell, error: BaseException, memory: int) -> Failure:
    found = failure(cell, error)
    if said := cards.lost(error):
        return found.model_copy(update={"sentence": said, "code": RefusedInput.exit_code})
    if cards.crowded(error):
        limit = "the card has too little memory for one such student alone"
        return found.model_copy(update={"sentence": f"{limit}; use a smaller --student or a card with more"})
    swollen = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
    if swollen and memory:
        limit = f"it needed more memory than the {units.size(memory)} that a worker may take here"
        return found.model_copy(update={"sentence": f"{limit}; use fewer --jobs, a smaller --student or more memory"})
    return found


def _told(failed: Failure) -> dict[str, Any]:
    sentence, trace = failed.sentence, messages.plain(failed.trace, messages.TRACE)
    return {"sentence": messages.plain(sentence[: messages.SENTENCE]), "trace": trace, "code": failed.code}
