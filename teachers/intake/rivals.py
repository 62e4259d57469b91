"""Several mappings of tensors in one checkpoint: which of them is the network's."""

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
    """The tensors that are taken, and a sentence that says so where there were others."""

    tensors: Tensors
    told: str = ""


def chosen(path: Path, held: Mapping[str, Tensors], name: str | None) -> Choice:
    """Take the one mapping that `name` names, or that a network of ours, of torchvision or of timm fits.

    Where several fit, or none does, the one of the plain name is taken (`plainest`), and told.

    Raises UsageError where no name is the plain one, or where there is none of this name.
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
    more = f"{_listed(held, others)} lies there, too" if len(others) == 1 else f"{_listed(held, others)} lie there, too"
    way = next((f": --weights {where} takes it" for where in others if where), "")
    return Choice(held[best], f"weights {best or 'at the top'}; {more}{way}")


def _large(held: Mapping[str, Tensors]) -> list[str]:
    """Return the mappings that have at least half as many tensors as the largest."""
    most = max(len(tensors) for tensors in held.values())
    return [where for where, tensors in held.items() if 2 * len(tensors) >= most]


def _named(path: Path, held: Mapping[str, Tensors], name: str) -> Choice:
    """Return what lies under a name: a mapping, or the tensors of one whose names begin so."""
    whole = {where: tensors for where, tensors in held.items() if where == name or where.endswith(f".{name}")}
    parts = {where: _below(tensors, where, name) for where, tensors in held.items()}
    found = [tensors for tensors in ({name: held[name]} if name in held else whole or parts).values() if tensors]
    if len(found) == 1:
        left = sum(map(len, held.values())) - len(found[0])
        return Choice(found[0], f"weights {name}, as --weights says; {left} other tensors are left")
    if found:
        raise UsageError(f"--weights {name}: {path} has several of this name; it holds {_listed(held, held)}")
    raise UsageError(f"--weights {name}: there is none in {path}; it holds {_listed(held, held)}")


def _below(tensors: Tensors, where: str, name: str) -> Tensors:
    within = name.removeprefix(f"{where}.") if where else name
    return {key.removeprefix(f"{within}."): t for key, t in tensors.items() if key.startswith(f"{within}.")}


def _listed(held: Mapping[str, Tensors], names: Iterable[str]) -> str:
    """Name mappings, and how many tensors each has."""
    told = [f"{where or 'the top'} ({len(held[where])} tensors)" for where in names]
    return ", ".join(told[:SHOWN]) + (", …" if len(told) > SHOWN else "")
