"""Build tensors from their declarations in an index, after checking these against the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from teachers.errors import RefusedInput
from teachers.intake.containers import Container
from teachers.intake.standins import Standin, Storage, TensorDeclaration, UnknownTensor

TYPES = ("torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.Tensor")


def is_tensor(value: object) -> bool:
    """Whether a value in an index is a tensor or declares one."""
    return isinstance(value, (Tensor, TensorDeclaration, UnknownTensor)) or plain(value) is not None


def plain(value: object) -> TensorDeclaration | None:
    """Return a tensor's declaration, in any torch version's form; None if it is no plain tensor."""
    if isinstance(value, TensorDeclaration):
        return value
    if not isinstance(value, Standin):
        return None
    if value.name in TYPES and value.args and isinstance(value.args[0], TensorDeclaration):
        return value.args[0]
    state = value.state
    oldest = value.name.startswith("torch.") and value.name.endswith("Tensor")
    if oldest and isinstance(state, tuple) and len(state) == 4 and isinstance(state[0], Storage):
        return TensorDeclaration(*state)
    return None


class Maker:
    """Build tensors; those that share a storage in the file share it here."""

    def __init__(self, path: Path, held: Container) -> None:
        self.path, self.held = path, held
        self.storages: dict[str, torch.UntypedStorage] = {}

    def tensors(self, values: Mapping[str, object]) -> dict[str, Tensor]:
        """Build the tensors of a mapping, which must be plain.

        Raises RefusedInput if one is not plain or declares more than the file holds.
        """
        return {name: value if isinstance(value, Tensor) else self._made(name, value) for name, value in values.items()}

    def _made(self, name: str, value: object) -> Tensor:
        declared = plain(value)
        if isinstance(value, UnknownTensor) and "." in value.function:
            raise RefusedInput(
                f"{self.path}: {name} is a tensor of {value.function}, which only code can build; save plain ones"
            )
        if declared is None:
            raise RefusedInput(f"{self.path}: {name} is sparse, quantised or empty of values; save a plain state dict")
        storage, size, stride = declared.storage, _numbers(declared.size), _numbers(declared.stride)
        offset = _numbers((declared.offset,))
        if (
            not isinstance(storage, Storage)
            or size is None
            or stride is None
            or offset is None
            or len(size) != len(stride)
        ):
            raise RefusedInput(f"{self.path}: {name} has an invalid declaration; save it again")
        dtype = declared.dtype if isinstance(declared.dtype, torch.dtype) else storage.dtype
        if dtype is None:
            raise RefusedInput(f"{self.path}: {name} is sparse, quantised or empty of values; save a plain state dict")
        return self._view(name, storage, dtype, offset[0] + storage.start, size, stride)

    def _view(
        self,
        name: str,
        storage: Storage,
        dtype: torch.dtype,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
    ) -> Tensor:
        whole = self.storages.get(storage.key)
        if whole is None:
            whole = self.storages[storage.key] = self.held.storage(storage)
        values = whole.nbytes() // dtype.itemsize
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        numel = math.prod(size)
        if numel and last >= values:
            raise RefusedInput(
                f"{self.path}: {name} reaches value {last} of a storage of {values}, which is not resizable; save it "
                "again"
            )
        if numel > values:
            raise RefusedInput(f"{self.path}: {name} declares {numel} values, more than the file holds for it")
        if not numel:
            return torch.empty(size, dtype=dtype)
        return torch.empty(0, dtype=dtype).set_(whole, offset, size, stride)


def _numbers(values: object) -> tuple[int, ...] | None:
    if type(values) is not tuple or not all(type(n) is int and 0 <= n < 2**63 for n in values):
        return None
    return values if len(values) <= 64 else None
