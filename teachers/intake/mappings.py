"""Find the state dicts in a checkpoint, whatever names the training script gave them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from teachers.intake.rebuilt import is_tensor, plain
from teachers.intake.standins import Standin, TensorDeclaration

DEEP = 6  # levels of nested mappings that are searched
LONG = 64  # members of a list that are searched
MOST = 16  # mappings returned, at most; a training script saves two or three that may be networks
OF_TRAINING = re.compile(r"(^|[._])(optim\w*|\w*schedulers?|\w*scalers?)($|[._])", re.IGNORECASE)

Named = dict[str, object]  # tensors, loaded or declared, by name


def mappings(content: object) -> dict[str, Named]:
    """Return the mappings of tensors in a checkpoint by their path in it, such as "model" or "state.model".

    If there are several, prefer those with a matrix, then those outside an optimiser; return the largest `MOST`.
    """
    found = dict(_within(content, (), set()))
    for rule in (_holds_a_matrix, lambda where, named: not OF_TRAINING.search(where)):
        found = {where: named for where, named in found.items() if rule(where, named)} or found
    largest = sorted(found, key=lambda where: -len(found[where]))[:MOST]
    return {where: named for where, named in found.items() if where in largest}


def entries(value: object) -> Mapping[object, object]:
    """Return a value's items by key, also if its class is unknown and a stand-in holds them."""
    if isinstance(value, Standin):
        return value.pairs
    return value if isinstance(value, Mapping) else {}


def _within(value: object, at: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, Named]]:
    if len(at) > DEEP or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, (list, tuple)):
        for i, member in enumerate(value[:LONG]):
            yield from _within(member, (*at, str(i)), seen)
        return
    held = entries(value)
    held = {key: member for key, member in held.items() if isinstance(key, str)}  # an optimiser's keys are numbers
    named = {str(key): member for key, member in held.items() if is_tensor(member)}
    if named:
        yield ".".join(at), named
    for key, member in held.items():
        if key not in named and (isinstance(member, (list, tuple)) or entries(member)):
            yield from _within(member, (*at, str(key)), seen)


def _holds_a_matrix(where: str, named: Named) -> bool:
    return any(_dimensions(value) > 1 for value in named.values())


def _dimensions(value: object) -> int:
    if isinstance(value, Tensor):
        return value.ndim
    declared = value if isinstance(value, TensorDeclaration) else plain(value)
    return len(declared.size) if declared is not None and isinstance(declared.size, tuple) else 2


def module_within(content: object) -> str | None:
    """Return the class name of a network saved as a whole module, unless as many tensors lie outside it."""
    modules = [v for v in (content, *entries(content).values()) if isinstance(v, Standin) and _is_module(v)]
    if not modules:
        return None
    whole = max(modules, key=_held)
    outside = max((len(named) for named in mappings(content).values()), default=0)
    return whole.name if outside < _held(whole) else None


def _is_module(value: Standin) -> bool:
    return isinstance(value.state, Mapping) and {"_parameters", "_modules"} <= value.state.keys()


def _held(value: Standin) -> int:
    """Count the tensors of a module and its submodules."""
    todo, seen, count = [value], set(), 0
    while todo:
        one = todo.pop()
        if id(one) in seen or not isinstance(one.state, Mapping):
            continue
        seen.add(id(one))
        for part in ("_parameters", "_buffers"):
            count += sum(is_tensor(v) for v in entries(one.state.get(part)).values())
        todo += [v for v in entries(one.state.get("_modules")).values() if isinstance(v, Standin)]
    return count
