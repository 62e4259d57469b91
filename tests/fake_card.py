"""A card that is not there: tensors that say they are on `cuda`, with their values on the CPU.

`FakeTensorMode` of torch says on which device each result is, and raises where an operation mixes devices. Beside each
of its tensors the values are computed on the CPU, so that all code runs as it is, also where it decides by values.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._pytree import tree_flatten, tree_unflatten

ROOT = Path(__file__).resolve().parent.parent
LOOP = "_Run.train"  # the loop over training steps
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
# What torch's own C++ hears of a card's tensors: for `cuda`, autograd would ask a driver for a stream.
META = torch.device("meta")
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class Wait(NamedTuple):
    """What makes the CPU wait for the card."""

    place: str  # file:function
    kind: str  # read: a value or a size; down: a copy to the CPU; up: a copy to the card for which the CPU waits


class Card(FakeTensorMode):
    """While it is entered, `cuda` is a device; `waits` holds what makes the CPU wait for it in a training step.

    These are operations whose result or its size depends on values, as torch declares them, and copies.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.waits: set[Wait] = set()
        self._deciding = False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._deciding:
            return super().__torch_dispatch__(func, types, args, kwargs)
        if func is torch.ops.prim.device.default:
            return META
        if FakeTensor not in types and not _is_card(kwargs.get("device")):
            return func(*args, **kwargs)
        flat, form = tree_flatten((args, {**kwargs, "device": CUDA} if _is_card(kwargs.get("device")) else kwargs))
        _refuse(func, flat)
        fakes = self._decided(func, types, flat, form)
        args, kwargs = tree_unflatten([_held(x) for x in flat], form)
        reals, form = tree_flatten(func(*args, **kwargs))
        if fakes is None:
            fakes = [self._like(x) if isinstance(x, Tensor) else x for x in reals]
            self._wait("read")
        elif func._schema.name.startswith("aten::index_put") and _counts(*args[1:]):
            self._wait("read")
        if any(isinstance(x, FakeTensor) and x.device == CPU for x in fakes):
            self._wait("down")
        elif any(_is_plain(x) and (func in COPIES or x.ndim) for x in flat) and not kwargs.get("non_blocking"):
            self._wait("up")
        return tree_unflatten([_holding(f, r) for f, r in zip(fakes, reals, strict=True)], form)

    def _decided(self, func: Any, types: Sequence[type], flat: list[Any], form: Any) -> list[Any] | None:
        """Return what an operation gives, without values; None where these say how much it is, or what."""
        self._deciding = True
        try:
            args, kwargs = tree_unflatten([self.from_tensor(x.detach()) if _is_plain(x) else x for x in flat], form)
            return list(tree_flatten(super().__torch_dispatch__(func, types, args, kwargs))[0])
        except (DataDependentOutputException, DynamicOutputShapeException):
            return None
        finally:
            self._deciding = False

    def _like(self, real: Tensor) -> Tensor:
        self._deciding = True
        try:
            with self:
                return torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device=CUDA)
        finally:
            self._deciding = False

    def _wait(self, kind: str) -> None:
        """Note a wait where it is in the loop, by the innermost function of ours that is no test's."""
        place, frame = "", sys._getframe(1)
        while frame.f_back is not None and (not place or frame.f_code.co_qualname != LOOP):
            path = Path(frame.f_code.co_filename)
            if not place and path.is_relative_to(ROOT):
                inside = path.relative_to(ROOT)
                if not {"tests", "site-packages"}.intersection(inside.parts):
                    place = f"{inside.as_posix()}:{frame.f_code.co_qualname}"
            frame = frame.f_back
        if frame.f_code.co_qualname == LOOP:
            self.waits.add(Wait(place, kind))


def _is_card(x: object) -> bool:
    return isinstance(x, torch.device) and x.type in ("cuda", "meta")


def _is_plain(x: object) -> bool:
    return isinstance(x, Tensor) and not isinstance(x, FakeTensor)


def _held(x: Any) -> Any:
    return x.held if isinstance(x, FakeTensor) else CPU if _is_card(x) else x


def _holding(fake: Any, real: Any) -> Any:
    """Return a result on the card with its values, or the plain one of the CPU."""
    if not isinstance(fake, FakeTensor) or hasattr(fake, "held"):
        return fake
    if fake.device == CPU:
        return real
    if fake.shape != real.shape:  # what a batch norm keeps for a gradient, which is of another size on a CPU
        real = real.new_zeros(fake.shape)
    if fake.stride() != real.stride() and not real._is_view():
        real = real.new_empty_strided(fake.shape, fake.stride()).copy_(real)
    assert (fake.shape, fake.dtype) == (real.shape, real.dtype)
    fake.held = real
    return fake


def _counts(index: Sequence[Tensor | None], values: Tensor, accumulate: bool = False, unsafe: bool = False) -> bool:
    """Whether rows are written where a mask says, one of several values at each: their number must be known first."""
    return any(x is not None and x.dtype == torch.bool for x in index) and (values.numel() > 1 or accumulate)


def _refuse(func: Any, flat: Sequence[Any]) -> None:
    """Raise where a card does, but `FakeTensorMode` does not."""
    if func._schema.name.startswith("aten::index") and _is_plain(flat[0]):
        raise RuntimeError("indices on cuda, of a tensor on the CPU")
    if any(isinstance(x, torch.Generator) and x.device == CPU for x in flat):
        raise RuntimeError("a generator of the CPU, for a tensor on cuda")


@contextmanager
def card() -> Iterator[Card]:
    """Let `cuda` be a device of this machine."""
    with (
        torch.backends.cudnn.flags(enabled=False),  # whose operations no CPU has
        torch.autograd.set_multithreading_enabled(False),  # the card's thread would not know this mode
        mock.patch("torch.cuda.get_rng_state", return_value=None),
        mock.patch("torch.cuda.set_rng_state", return_value=None),
        Card() as entered,
    ):
        yield entered


def values(x: Tensor) -> Tensor:
    """Return the values of a tensor on the card; raise AssertionError for one that is not there."""
    assert isinstance(x, FakeTensor), "this tensor is on the CPU"
    assert x.device.type == "cuda"
    held: Tensor = x.held
    return held
