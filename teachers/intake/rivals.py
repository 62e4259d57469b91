"""Choose the network's weights if a checkpoint holds several mappings of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from teachers.errors import UsageError
from teachers.intake.architecture import guess_plainly
from teachers.intake.beside import plainest

Tensors = Mapping[str, Tensor]
SHOWN = 8  # names in a sentence


@dataclass(frozen=True)
class Choice:
    """The chosen tensors, and a sentence about the choice if there were others."""

    tensors: Tensors
    told: str = ""


def chosen(path: Path, held: Mapping[str, Tensors], name: str | None) -> Choice:
    """Choose the mapping that `name` names, or the only one that fits a known network.

    If several fit, or none does, choose the one with the usual name (`plainest`), and say so.

    Raises UsageError if no name is clear, or no mapping has the given name.
    """
    if name is not None:
        return _named(path, held, name)
    if len(held) == 1:
        return Choice(next(iter(held.values())))
    fits = [where for where, tensors in held.items() if guess_plainly(tensors)]
    rivals = fits or _large(held)
    best = rivals[0] if len(rivals) == 1 else plainest(rivals)
    if best is None:
        raise UsageError(
            f"{path} holds several networks: {_listed(held, rivals)}; say which one is meant: --weights {rivals[0]}"
        )
    others = [where for where in held if where != best and (where in fits or not fits)]
    if not others:
        return Choice(held[best])
    way = next((f"; --weights {where} chooses it" for where in others if where), "")
    return Choice(held[best], f"weights {best or 'at the top'}; the file also holds {_listed(held, others)}{way}")


def _large(held: Mapping[str, Tensors]) -> list[str]:
    """Return the mappings with at least half as many tensors as the largest."""
    most = max(len(tensors) for tensors in held.values())
    return [where for where, tensors in held.items() if 2 * len(tensors) >= most]


def _named(path: Path, held: Mapping[str, Tensors], name: str) -> Choice:
    """Return the tensors under a name: a mapping's, or those whose own names begin with it."""
    whole = {where: tensors for where, tensors in held.items() if where == name or where.endswith(f".{name}")}
    parts = {where: _below(tensors, where, name) for where, tensors in held.items()}
    found = [tensors for tensors in ({name: held[name]} if name in held else whole or parts).values() if tensors]
    if len(found) == 1:
        left = sum(map(len, held.values())) - len(found[0])
        return Choice(found[0], f"weights {name}, as --weights says; {left} other tensors are left out")
    if found:
        raise UsageError(f"--weights {name}: {path} has several of this name; it holds {_listed(held, held)}")
    raise UsageError(f"--weights {name}: there is none in {path}; it holds {_listed(held, held)}")


def _below(tensors: Tensors, where: str, name: str) -> Tensors:
    within = name.removeprefix(f"{where}.") if where else name
    return {key.removeprefix(f"{within}."): t for key, t in tensors.items() if key.startswith(f"{within}.")}


def _listed(held: Mapping[str, Tensors], names: Iterable[str]) -> str:
    """Return the names of mappings with their numbers of tensors."""
    told = [f"{where or 'the top'} ({len(held[where])} tensors)" for where in names]
    return ", ".join(told[:SHOWN]) + (", …" if len(told) > SHOWN else "")
