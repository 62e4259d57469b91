"""Names of tensors: as a training script left them, and as a network itself calls them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from teachers.intake.fingerprint import idle
from teachers.intake.normalise import Normalisation

DEEP = 5  # wrappers around a network, and itself
MOST = 8  # lone layers of which one may be the last
FEW = 4  # channels whose mean and spread a script may keep beside the network
MEANS, SPREADS = {"mean", "means", "mu"}, {"std", "stds", "sd", "sds", "sigma"}


@dataclass(frozen=True)
class Spelling:
    """A checkpoint's tensors by other names, and what was changed, as parts of a sentence."""

    tensors: Mapping[str, Tensor]
    changes: tuple[str, ...] = ()
    normalize: str | None = None  # what lies beside the network, as --normalize takes it


def spellings(tensors: Mapping[str, Tensor]) -> Iterator[Spelling]:
    """Yield all names that a network may have for a checkpoint's tensors, those that they have first.

    A wrapper puts its own name before all of them (`module.conv1.weight`), and may keep the mean and spread of its
    images beside; a last layer that was replaced by a dropout and a layer has a number (`fc.1.weight` for `fc.weight`).
    """
    left: Spelling | None = Spelling(tensors)
    for _ in range(DEEP):
        if left is None:
            return
        yield left
        for stem, number in _stacked(left.tensors):
            layer = {f"{stem}.{number}.{part}": f"{stem}.{part}" for part in ("weight", "bias")}
            whole = {layer.get(name, name): tensor for name, tensor in left.tensors.items()}
            yield replace(left, tensors=whole, changes=(*left.changes, f"{stem}.{number} as {stem}"))
        left = _unwrapped(left)


def spelled(tensors: Mapping[str, Tensor], wanted: Collection[str]) -> Spelling:
    """Return a checkpoint's tensors by the names that a network wants; as they are, where no spelling has these."""
    names = _counted(wanted)
    return next((s for s in spellings(tensors) if _counted(s.tensors) == names), Spelling(tensors))


def _counted(names: Collection[str]) -> set[str]:
    return {name for name in names if not idle(name)}


def _stacked(tensors: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Return where a linear layer is all that a sequence holds: its name and the layer's number."""
    inside = Counter(name.rsplit(".", above)[0] for name in tensors for above in (1, 2) if name.count(".") >= above)
    found = []
    for name, tensor in tensors.items():
        layer = re.fullmatch(r"(.+)\.(\d+)\.weight", name)
        if layer and tensor.ndim == 2 and inside[layer[1]] == 1 + (f"{layer[1]}.{layer[2]}.bias" in tensors):
            found.append((layer[1], layer[2]))
    return found[:MOST]


def _unwrapped(spelling: Spelling) -> Spelling | None:
    """Return what a wrapper holds; None where nothing is wrapped."""
    heads = Counter(name.partition(".")[0] for name in spelling.tensors if "." in name)
    if not heads:
        return None
    ((outer, _),) = heads.most_common(1)
    inside = {n.removeprefix(f"{outer}."): t for n, t in spelling.tensors.items() if n.startswith(f"{outer}.")}
    beside = {n: t for n, t in spelling.tensors.items() if not n.startswith(f"{outer}.")}
    changes = (*spelling.changes, f"inside {outer}")
    if not beside:
        return replace(spelling, tensors=inside, changes=changes)
    stated = _stated(beside)
    if stated is None:
        return None
    return Spelling(inside, (*changes, f"without {', '.join(sorted(beside))}"), stated)


def _stated(beside: Mapping[str, Tensor]) -> str | None:
    """Return a mean and a spread as a normalisation; None where anything else is there, such as a temperature."""
    parts = [
        [t.flatten().tolist() for name, t in beside.items() if name.rpartition(".")[2] in names and t.numel() <= FEW]
        for names in (MEANS, SPREADS)
    ]
    if len(beside) != 2 or [len(found) for found in parts] != [1, 1]:
        return None
    mean, std = (tuple(round(value, 6) for value in found[0]) for found in parts)
    return str(Normalisation(mean, std))
