"""Read a pickle without importing or calling anything it names: stand-ins replace everything but tensors."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import torch

from teachers.intake.names import is_function, runs

DTYPES = {str(t): t for t in vars(torch).values() if isinstance(t, torch.dtype)}
KINDS = {  # of storages
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64,
    "Untyped": torch.uint8,
}


class Storage(NamedTuple):
    """A storage in a file, which holds the values of tensors."""

    dtype: torch.dtype | None  # None if unknown
    key: str
    numel: int
    start: int = 0  # index of its first value in the whole storage, in very old files


class TensorDeclaration:
    """A tensor as a pickle declares it, not checked yet."""

    __slots__ = ("dtype", "offset", "size", "storage", "stride")

    def __init__(self, storage: object, offset: object, size: object, stride: object, dtype: object = None) -> None:
        self.storage, self.offset, self.size, self.stride, self.dtype = storage, offset, size, stride, dtype

    def __setstate__(self, state: object) -> None:
        """Ignore a subclass's other attributes."""


class UnknownTensor(NamedTuple):
    """A tensor that is no plain array of numbers, and the function that would rebuild it."""

    function: str


class Pairs(dict[Any, Any]):
    """An ordered dict; its attributes (`_metadata`) are ignored."""

    def __setstate__(self, state: object) -> None:
        """Ignore attributes."""


class Standin:
    """Stand in for an object of a pickle and do nothing; each subclass has the name of a global in the pickle."""

    name = ""
    reader: Reader
    args: tuple[object, ...]
    pairs: dict[object, object]  # items set by key
    state: object

    def __new__(cls, *args: object, **more: object) -> Standin:
        made = object.__new__(cls)
        made.args, made.pairs, made.state = args, {}, None
        cls.reader.built.add(cls.name)
        return made

    def __init__(self, *args: object, **more: object) -> None:
        self.reader.call(type(self), args)

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        self.pairs[key] = value

    def append(self, item: object) -> None:
        """Ignore an item."""

    extend = add = append


class Function:
    """One of our functions in place of one that a pickle names; the pickle can call it and do nothing else with it."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self.call = call

    def __call__(self, *args: object) -> object:
        return self.call(*args)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a pickle that changes a function")


def _typed(function: object, kind: object, args: tuple[object, ...], state: object) -> object:
    """Rebuild a tensor with attributes; return UnknownTensor if its class is not torch's own."""
    if (
        isinstance(kind, type)
        and issubclass(kind, Standin)
        and kind.name.startswith("torch.")
        and kind.name.count(".") < 4
    ):
        return (
            function(*args) if isinstance(function, Function) else UnknownTensor("torch._tensor._rebuild_from_type_v2")
        )
    return UnknownTensor(getattr(kind, "name", "") if isinstance(kind, type) else "torch._tensor._rebuild_from_type_v2")


REBUILT: dict[str, Callable[..., object]] = {
    "_rebuild_tensor": lambda storage, offset, size, stride: TensorDeclaration(storage, offset, size, stride),
    "_rebuild_tensor_v2": lambda storage, offset, size, stride, *_: TensorDeclaration(storage, offset, size, stride),
    "_rebuild_tensor_v3": lambda storage, offset, size, stride, grad, hooks, dtype, *_: TensorDeclaration(
        storage, offset, size, stride, dtype
    ),
    "_rebuild_parameter": lambda data, *_: data,
    "_rebuild_parameter_with_state": lambda data, *_: data,
    "_rebuild_device_tensor_from_cpu_tensor": lambda data, *_: data,
}
FUNCTIONS: dict[str, Callable[..., object]] = {
    **{f"torch._utils.{name}": function for name, function in REBUILT.items()},
    "torch._tensor._rebuild_from_type_v2": _typed,
    "torch.Size": lambda sizes=(): tuple(sizes),
}


class Reader(pickle.Unpickler):
    """Read a pickle; collect the globals that it names, and in `running` those that would run code."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")
        self.names: dict[str, object] = {}
        self.running: set[str] = set()
        self.functions: set[str] = set()  # functions that the pickle names
        self.built: set[str] = set()
        self.storages: list[Storage] = []

    def find_class(self, module: str, name: str) -> object:
        """Return the stand-in for a global, without importing any module."""
        whole = f"{module}.{name}"
        if whole not in self.names:
            self.names[whole] = self._found(module, name, whole)
        return self.names[whole]

    def _found(self, module: str, name: str, whole: str) -> object:
        if whole == "collections.OrderedDict":
            return Pairs
        if whole in DTYPES:
            return DTYPES[whole]
        if whole in FUNCTIONS:
            return Function(FUNCTIONS[whole])
        if module == "torch._utils" and name.startswith("_rebuild_"):
            return Function(lambda *args: UnknownTensor(name))
        if module in ("torch", "torch.storage", "torch.cuda") and name.endswith("Storage"):
            return Kind(KINDS.get(name.removesuffix("Storage")))
        if whole in ("builtins.getattr", "__builtin__.getattr"):
            return Function(self._attribute)
        if runs(whole):
            self.running.add(whole)
        elif is_function(module, name):
            self.functions.add(whole)
        return self.standin(whole)

    def standin(self, name: str) -> type[Standin]:
        """Return a new class with this name that does nothing."""
        return type("Standin", (Standin,), {"name": name, "reader": self})

    def _attribute(self, owner: object, name: object) -> object:
        """Stand in for a class's member, such as an enumeration's; any other attribute could give access to code."""
        if isinstance(owner, type) and issubclass(owner, Standin) and type(name) is str:
            return self.standin(f"{owner.name}.{name}")
        self.running.add("getattr")
        return self.standin("getattr")

    def call(self, what: type[Standin], args: tuple[object, ...]) -> None:
        """Note that a pickle would call `what`; it is dangerous if it is a function or gets a dangerous argument."""
        given = {a.name for a in args if isinstance(a, type) and issubclass(a, Standin)}
        if given & self.running or is_function(*what.name.rpartition(".")[::2]):
            self.running.add(what.name)

    @property
    def dangerous(self) -> tuple[str, ...]:
        """The names of globals that would run code, in the file's order; empty if the pickle is harmless."""
        found = self.running | (self.functions - self.built)
        return (*(name for name in self.names if name in found), *sorted(found - self.names.keys()))

    def persistent_load(self, pid: object) -> object:
        """Return the storage that a persistent id names; no other kind of id is accepted."""
        if (
            type(pid) is tuple and len(pid) == 4 and pid[0] == "module"
        ):  # in very old whole modules: a class and its source
            return pid[1]
        if type(pid) is not tuple or len(pid) not in (5, 6) or pid[0] != "storage" or type(pid[1]) is not Kind:
            raise pickle.UnpicklingError("a pickle that asks for more than storages")
        _, kind, key, _, numel, *view = pid
        if type(key) is not str or type(numel) is not int or numel < 0:
            raise pickle.UnpicklingError(f"a storage of {str(numel)[:40]} values")
        self.storages.append(Storage(kind.dtype, key, numel, _start(view)))
        return self.storages[-1]


class Kind(NamedTuple):
    """The element type of a storage."""

    dtype: torch.dtype | None


def _start(view: list[object]) -> int:
    match view:
        case [] | [None]:
            return 0
        case [(_, int() as start, int())] if start >= 0:
            return start
    raise pickle.UnpicklingError("a view of something that is not a storage")
