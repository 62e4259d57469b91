"""One training step recorded on a card and replayed: small networks wait for launches there, not for arithmetic.

What a recording holds is fixed: tensors at their places, and every number that Python computed. So only steps are
recorded that depend on tensors alone: the loss is a function of ours, it does not read the number of the step, and
nothing else learns with the student. Any other step is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from types import FunctionType, MethodType
from typing import Any, Protocol

import torch
from torch import Tensor

EAGER = 5  # steps that are taken as they are first: optimiser and libraries allocate what they keep
OURS = "attacks."  # modules whose losses keep no count of their calls

Work = Callable[[], None]


class Recorder(Protocol):
    """Records work on a device without doing it."""

    def __call__(self, work: Work) -> Work:
        """Return what does the same work again on the same tensors."""
        ...


class StepRead(Exception):
    """A loss reads the number of the step, which a recording would keep for ever."""


class UnreadStep:
    """Stands for the number of a step while it is recorded: whoever reads it learns that it may not be."""

    def _read(self, *_: Any) -> Any:
        raise StepRead

    __index__ = __int__ = __float__ = __bool__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _read
    __truediv__ = __rtruediv__ = __floordiv__ = __mod__ = __pow__ = __neg__ = __lt__ = __le__ = __gt__ = __ge__ = _read
    __eq__ = __ne__ = _read
    __hash__ = None  # type: ignore[assignment]


def present(device: torch.device) -> bool:
    """Whether a device is a card that is there: tests train on one that is not."""
    return device.type == "cuda" and torch.cuda.is_available()


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Let a card work on a stream of its own: on the default one nothing can be recorded."""
    if not present(device):
        yield
        return
    own = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    own.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(own):
        yield
    torch.cuda.current_stream(device).wait_stream(own)


def on_card(work: Work) -> Work:
    """Record work as a CUDA graph on the present stream, which must not be the default one."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        work()
    return graph.replay


def why_not(objective: Any, learners: int) -> str:
    """Return why a step of an objective is not recorded; empty where it may be. `learners`: number of optimisers."""
    if learners > 1:
        return "the loss learns with the student"
    if not isinstance(objective, FunctionType | MethodType):
        return "the loss keeps a state of its own"
    if not str(objective.__module__).startswith(OURS):
        return "the loss is not ours: it may count its calls"
    return ""


@dataclass
class Recording:
    """A step that is replayed on a batch that is copied to where the recorded one was."""

    batch: Any  # a `Batch` with tensors of its own
    replay: Work

    @classmethod
    def of(cls, batch: Any, learn: Callable[[Any, Any], None], recorder: Recorder) -> Recording | None:
        """Record `learn(batch, step)`; None where the loss reads the step, or waits for the card."""
        held = _copied(batch)
        try:
            return cls(held, recorder(lambda: learn(held, UnreadStep())))
        except (StepRead, RuntimeError):  # CUDA refuses to record what waits for the card
            return None

    def fits(self, batch: Any) -> bool:
        """Whether a batch has tensors of the same kind and shape as the recorded one."""
        mine, theirs = list(_tensors(self.batch)), list(_tensors(batch))
        return [_form(t) for t in mine] == [_form(t) for t in theirs]

    def learn(self, batch: Any) -> None:
        """Take the step on a batch that fits."""
        with torch.no_grad():
            for mine, theirs in zip(_tensors(self.batch), _tensors(batch), strict=True):
                if mine is not None and theirs is not None:
                    mine.copy_(theirs, non_blocking=True)
        self.replay()


def _copied(batch: Any) -> Any:
    """Return a batch whose tensors are copies."""
    answers = batch.answers
    if answers is not None:
        answers = replace(answers, values=_copy(answers.values), gradients=_copy(answers.gradients))
    own = {f.name: _copy(getattr(batch, f.name)) for f in fields(batch) if f.name != "answers"}
    return replace(batch, answers=answers, **own)


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _tensors(batch: Any) -> list[Tensor | None]:
    answers = batch.answers
    told = [None, None] if answers is None else [answers.values, answers.gradients]
    return [getattr(batch, f.name) for f in fields(batch) if f.name != "answers"] + told


def _form(tensor: Tensor | None) -> Any:
    return None if tensor is None else (tensor.shape, tensor.dtype, tensor.device)
