"""Translate tensor names from a training script's form to the network's own."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice, product

from torch import Tensor

from teachers.intake.beside import AVERAGES, LONGEST, copies, is_beside, is_statistic, plainest, stated
from teachers.intake.fingerprint import idle

DEEP = 6  # nested wrappers, plus the network itself
MOST = 8  # candidates for a renamed last layer, at most
TRIED, FIRST, MANY = 40, 6, 10_000  # spellings to try; only FIRST for more than MANY tensors
COPIES = 16  # copies of a network next to it, at most
HEADS = 4  # name prefixes that are tried as wrappers
LASTS = ("fc", "classifier", "head", "head.fc", "heads.head", "last_linear", *(f"classifier.{i}" for i in (1, 2, 3, 6)))
PARTS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
OLD = (  # names in earlier versions of torchvision
    (re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)"), r"\1\2"),
    (re.compile(r"(.*\.mlp)\.linear_1\.(weight|bias)"), r"\1.0.\2"),
    (re.compile(r"(.*\.mlp)\.linear_2\.(weight|bias)"), r"\1.3.\2"),
)


@dataclass(frozen=True)
class Spelling:
    """A checkpoint's tensors under other names, and the changes as parts of a sentence."""

    tensors: Mapping[str, Tensor]
    changes: tuple[str, ...] = ()
    normalize: str | None = None  # the normalisation saved with the network, as --normalize takes it
    left: tuple[str, ...] = ()  # names of ignored tensors, which no answer depends on
    joined: bool = False  # whether tensors were combined that may not belong together


def spellings(tensors: Mapping[str, Tensor]) -> Iterator[Spelling]:
    """Yield a checkpoint's tensors under all names that a network may use for them, the present names first.

    A wrapper adds its name in front (`module.conv1.weight`) or in the middle, and may add tensors: mean and standard
    deviation of its images, losses, metrics and copies. A last layer replaced by a dropout and a layer has a number
    (`fc.1.weight` for `fc.weight`), and a last layer outside a body may have any name. No other tensor is ignored.
    """
    tried = []
    for spelling in islice(_all(Spelling(tensors)), TRIED if len(tensors) <= MANY else FIRST):
        tried.append(spelling)
        yield spelling
    for spelling in tried:
        if spelling.joined:
            yield from _last_renamed(spelling)


def _all(first: Spelling) -> Iterator[Spelling]:
    todo = deque([(first, 1)])
    while todo:
        found, depth = todo.popleft()
        yield from _stacked_as_one(found)
        plain = _renamed(_alone(found))
        if plain is not found:
            yield from _stacked_as_one(plain)
        if depth < DEEP:
            todo += [(inner, depth + 1) for inner in _unwrapped(plain)]


def spelled(tensors: Mapping[str, Tensor], wanted: Collection[str]) -> Spelling:
    """Return a checkpoint's tensors under the names that a network wants, or unchanged if no spelling fits."""
    names = _counted(wanted)
    return next((s for s in spellings(tensors) if _counted(s.tensors) == names), Spelling(tensors))


def _counted(names: Collection[str]) -> set[str]:
    return {name for name in names if not idle(name)}


def _stacked_as_one(found: Spelling) -> Iterator[Spelling]:
    """Yield the names unchanged, then with each single layer of a sequence renamed to the sequence."""
    yield found
    for stem, number in _stacked(found.tensors):
        layer = {f"{stem}.{number}.{part}": f"{stem}.{part}" for part in ("weight", "bias")}
        whole = {layer.get(name, name): tensor for name, tensor in found.tensors.items()}
        yield replace(found, tensors=whole, changes=(*found.changes, f"{stem}.{number} as {stem}"))


def _stacked(tensors: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Return the sequences that hold only a linear layer: the sequence's name and the layer's number."""
    inside = Counter(name.rsplit(".", above)[0] for name in tensors for above in (1, 2) if name.count(".") >= above)
    found = []
    for name, tensor in tensors.items():
        layer = re.fullmatch(r"(.+)\.(\d+)\.weight", name)
        if layer and tensor.ndim == 2 and inside[layer[1]] == 1 + (f"{layer[1]}.{layer[2]}.bias" in tensors):
            found.append((layer[1], layer[2]))
    return found[:MOST]


def _last_renamed(found: Spelling) -> Iterator[Spelling]:
    """Yield a body whose single outside linear layer is renamed to each usual name of a last layer."""
    inside = Counter(name.partition(".")[0] for name in found.tensors)
    stems = [n.removesuffix(".weight") for n, t in found.tensors.items() if t.ndim == 2 and n.endswith(".weight")]
    lone = [s for s in stems if inside[s.partition(".")[0]] == 1 + (f"{s}.bias" in found.tensors)]
    for stem, last in product(lone, LASTS) if len(lone) == 1 else ():
        if last != stem:
            layer = {f"{stem}.{part}": f"{last}.{part}" for part in ("weight", "bias")}
            whole = {layer.get(name, name): tensor for name, tensor in found.tensors.items()}
            if len(whole) == len(found.tensors):
                yield replace(found, tensors=whole, changes=(*found.changes, f"{stem} as {last}"))


def _alone(found: Spelling) -> Spelling:
    """Ignore losses, metrics and counters."""
    left = tuple(name for name, t in found.tensors.items() if is_beside(name, t))
    if not left:
        return found
    held = set(left)
    rest = {name: t for name, t in found.tensors.items() if name not in held}
    return replace(found, tensors=rest, left=(*found.left, *left))


def _renamed(found: Spelling) -> Spelling:
    """Remove wrappers' names from the middle of tensor names, and replace torchvision's old names."""
    names = {name: _new(name) for name in found.tensors}
    if len(set(names.values())) < len(names) or all(name == new for name, new in names.items()):
        return found
    parts = [p for p in PARTS if any(f".{p}." in name for name in names)]
    told = [f"without {p}" for p in parts]
    example = next(((n, new) for n, new in names.items() if _bare(n) != new), None)
    told += [f"{example[0]} as {example[1]}"] if example else []
    return replace(found, tensors={names[n]: t for n, t in found.tensors.items()}, changes=(*found.changes, *told))


def _new(name: str) -> str:
    bare = _bare(name)
    if len(bare) > LONGEST:
        return bare
    return next((old.sub(new, bare) for old, new in OLD if old.fullmatch(bare)), bare)


def _bare(name: str) -> str:
    first, *others = name.split(".")
    return ".".join((first, *(part for part in others if part not in PARTS)))


def _unwrapped(found: Spelling) -> Iterator[Spelling]:
    """Yield the tensors under a name prefix, if the others can be ignored or belong to the same network."""
    heads = Counter(name.partition(".")[0] for name in found.tensors if "." in name)
    for head, _ in heads.most_common(HEADS):
        inside = {n.removeprefix(f"{head}."): t for n, t in found.tensors.items() if n.startswith(f"{head}.")}
        beside = {n: t for n, t in found.tensors.items() if not n.startswith(f"{head}.")}
        changed = replace(found, tensors=inside, changes=(*found.changes, f"inside {head}"))
        if not beside:
            yield changed
            continue
        yield from _apart(changed, head, beside)
        joined = inside | beside
        if len(joined) == len(found.tensors):
            yield replace(changed, tensors=joined, joined=True)
    yield from _unnormalised(found)
    inner = {name.partition(".")[2]: t for name, t in found.tensors.items()}
    if 1 < len(heads) <= HEADS and len(inner) == len(found.tensors) and "" not in inner:
        changes = (*found.changes, f"inside {', '.join(heads)}")
        yield replace(found, tensors=inner, changes=changes, joined=True)


def _unnormalised(found: Spelling) -> Iterator[Spelling]:
    """Yield a network without a module next to it that only normalises (`data_preprocessor.mean`)."""
    for head in {name.partition(".")[0] for name in found.tensors if is_statistic(name)}:
        held = {n: t for n, t in found.tensors.items() if n.startswith(f"{head}.")}
        rest = {n: t for n, t in found.tensors.items() if n not in held}
        if rest and (normalize := stated(held)):
            changes = (*found.changes, f"without {', '.join(sorted(held))}")
            yield replace(found, tensors=rest, changes=changes, normalize=normalize)


def _apart(inside: Spelling, head: str, beside: Mapping[str, Tensor]) -> Iterator[Spelling]:
    """Yield a network without the tensors next to it: its copies, if it has the usual name, and a normalisation."""
    others = copies(inside.tensors, beside)
    if len(others) > COPIES:  # probably an ensemble
        return
    differ = [at for at, same in others.items() if not same]
    if differ and (plainest([head, *differ]) != head or not all(AVERAGES.search(at) for at in differ)):
        return  # perhaps an ensemble
    rest = {n: t for n, t in beside.items() if not any(n.startswith(f"{at}.") for at in others)}
    told = tuple(f"not {at}, other values of the same tensors" for at in differ)
    left = (*inside.left, *(n for n in beside if n not in rest))
    normalize = stated(rest) if rest else inside.normalize
    if rest and normalize is None:
        return
    without = (f"without {', '.join(sorted(rest))}",) if rest else ()
    yield replace(inside, changes=(*inside.changes, *without, *told), normalize=normalize, left=left)
