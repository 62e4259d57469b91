"""Guess an architecture from the names and shapes of a checkpoint's tensors, by an index of a thousand networks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from teachers import networks
from teachers.errors import AuditError
from teachers.intake.fingerprint import Entry, Shapes, alike, digest, digest_of_shapes, idle, index, masked, sketch
from teachers.intake.spelling import Spelling, spellings

COMPARED = 4  # networks compared exactly with a checkpoint that fits none
SHOWN = 4  # tensor names in a sentence, at most
HEADS = 8  # name prefixes that are searched for networks
NEAR = 0.2  # least share of common tensors for two networks to be called similar
VARIANTS = ("tf_", "gluon_", "legacy_", "flexivit_")  # prefixes of timm's variants of a plainly named network


@dataclass(frozen=True)
class Candidate:
    """A network that a checkpoint's tensors fit, name by name and shape by shape."""

    name: str  # as networks.build takes it
    classes: int | None
    channels: int
    size: int | None  # pixels per side, from the weights or else the default; None if neither gives it
    fixed: bool  # whether the weights fit only that size
    changes: tuple[str, ...] = ()  # how tensor names were changed to the network's, as parts of a sentence
    normalize: str | None = None  # the normalisation that the checkpoint states, as --normalize takes it
    own: int = field(default=0, compare=False)  # number of tensors that belong to the network
    left: tuple[str, ...] = ()  # names of other tensors, which are ignored

    @property
    def left_over(self) -> str:
        """A sentence about the ignored tensors; empty if there are none."""
        return left_over(self.name, self.own, self.left)


def left_over(name: str, own: int, left: Sequence[str]) -> str:
    """Return a sentence on how many tensors belong to a network and which are left over; empty if none is."""
    more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
    said = f"{own} of {own + len(left)} tensors are {name}'s; left over: {', '.join(left[:SHOWN])}{more}"
    return said if left else ""


@dataclass(frozen=True)
class Guess:
    """The networks that fit, the likeliest first; if none does, the nearest one and how it differs."""

    candidates: tuple[Candidate, ...]
    nearest: str = ""
    differs: str = ""
    surplus: str = ""  # if all tensors of the nearest are present: a sentence on the additional ones

    @property
    def told(self) -> str:
        """A description of the nearest network, as part of a sentence."""
        if not self.nearest:
            return f"none of {len(index()):,} networks is like it"
        return f"the nearest is {self.nearest}: {self.differs}"


def guess(tensors: Mapping[str, Tensor]) -> Guess:
    """Find the networks of ours, of torchvision and of timm whose tensors have these names and shapes.

    Names may differ only by what a wrapper adds (`spellings`). Any number of classes, input channels and any input size
    fit. Networks that share all names and shapes are ranked: ours, torchvision's, timm's; within timm, first the one
    with the input size of the weights, then plain names.
    """
    inmost = shapes_of(tensors)
    for spelling in spellings(tensors):
        shapes = shapes_of(spelling.tensors)
        if fits := _fitting(shapes):
            return Guess(tuple(_as_spelled(fit, spelling) for fit in fits))
        if not spelling.joined:
            inmost = min(inmost, shapes, key=lambda s: sum(map(len, s)))
    return _nearest(inmost)


def _as_spelled(fit: Candidate, by: Spelling) -> Candidate:
    return replace(fit, changes=by.changes, normalize=by.normalize, own=len(by.tensors), left=by.left)


def inside(tensors: Mapping[str, Tensor]) -> dict[str, Candidate]:
    """Return the networks that a checkpoint holds under name prefixes, such as a student and its teacher."""
    found: dict[str, Candidate] = {}
    below = [name.split(".") for name in tensors]
    heads = Counter(".".join(parts[:deep]) for parts in below for deep in (1, 2) if len(parts) > deep)
    for head, _ in heads.most_common(HEADS):
        part = {n.removeprefix(f"{head}."): t for n, t in tensors.items() if n.startswith(f"{head}.")}
        fits = () if any(head.startswith(f"{at}.") for at in found) else guess_plainly(part)
        if fits:
            found[head] = fits[0]
    return found


def guess_plainly(tensors: Mapping[str, Tensor]) -> tuple[Candidate, ...]:
    """Return the networks that fit, without searching for the nearest if none does."""
    return next((f for s in spellings(tensors) if (f := _fitting(shapes_of(s.tensors)))), ())


def channels_of(tensors: Mapping[str, Tensor]) -> int | None:
    """Return the input channels of the network that tensors fit, or None."""
    return next((fit.channels for fit in guess_plainly(tensors)), None)


def _fitting(shapes: Shapes) -> tuple[Candidate, ...]:
    ours = _of_ours(shapes)
    if ours:
        return (ours,)
    keys = digest(shapes)
    same = [e for e in index() if e.keys == keys and e.shapes == digest_of_shapes(shapes, e.open)]
    if not same:
        return ()
    native = {e.name for e in same if e.native and e.native == digest_of_shapes(shapes, e.narrow)}
    same.sort(key=lambda entry: (bool(native) and entry.name not in native, *_preference(entry, shapes)))
    sized = bool(native) or _sized(same[0], shapes)
    return tuple(_candidate(e, shapes, e.size if e.name in native else None, sized) for e in same)


def _preference(entry: Entry, shapes: Shapes) -> tuple[int, bool, bool, int, str]:
    library, _, plain = entry.name.rpartition(":")
    other_size = entry.fixed and _size(entry, shapes) not in (None, entry.size)
    rank = ("", "torchvision", "timm").index(library)
    return rank, other_size, plain.startswith(VARIANTS), len(plain), plain


def _candidate(entry: Entry, shapes: Shapes, native: int | None, sized: bool) -> Candidate:
    classes = entry.classes.of(shapes) if entry.classes else None
    size = native or (_size(entry, shapes) if sized else None)
    return Candidate(entry.name, classes, _channels(entry, shapes), size, entry.fixed)


def _sized(entry: Entry, shapes: Shapes) -> bool:
    """Whether the input size derived from the position embedding fits all the weights."""
    size, classes = _size(entry, shapes), entry.classes.of(shapes) if entry.classes else None
    return not entry.fixed or _fits(entry.name, classes, (_channels(entry, shapes), size, size), shapes)


def _channels(entry: Entry, shapes: Shapes) -> int:
    return (entry.channels.of(shapes) if entry.channels else None) or 3


def _size(entry: Entry, shapes: Shapes) -> int | None:
    return entry.grid.size(shapes) if entry.grid else entry.size


def _fits(name: str, classes: int | None, shape: tuple[int, int | None, int | None], shapes: Shapes) -> bool:
    """Whether a network built for this input has exactly these tensor shapes."""
    channels, height, width = shape
    if height is None or width is None:
        return False
    try:
        return built(name, classes or 2, (channels, height, width)) == shapes
    except (AuditError, RuntimeError, AssertionError, ValueError, TypeError):  # no network of that size
        return False


def weightless(name: str, classes: int, shape: networks.Shape) -> nn.Module:
    """Build a network without allocating its weights."""
    return networks.weightless(lambda: networks.build(name, classes, shape))


def built(name: str, classes: int, shape: networks.Shape) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's tensors."""
    return shapes_of(weightless(name, classes, shape).state_dict())


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that influence the answers."""
    return {key: tuple(t.shape) for key, t in tensors.items() if not idle(key)}


def _of_ours(shapes: Shapes) -> Candidate | None:
    """Recognise our own networks whose names contain numbers, by the depth and widths that the shapes imply."""
    if "stem.0.weight" in shapes and "head.weight" in shapes:
        blocks = {key.split(".")[1] for key in shapes if re.fullmatch(r"blocks\.\d+\.conv1\.weight", key)}
        found = _checked(f"resnet-{2 * len(blocks) + 2}", shapes["stem.0.weight"], shapes["head.weight"], 1, shapes)
        return found and Candidate(found.name, found.classes, found.channels, None, False)
    for kind, step in (("cnn", 4), ("strided", 3)):
        widths: list[int] = []
        while len(shapes.get(f"{step * len(widths)}.weight", ())) == 4:
            widths.append(shapes[f"{step * len(widths)}.weight"][0])
        head = shapes.get(f"{step * len(widths) + 1}.weight", ())
        if widths and len(head) == 2:
            side = round((head[1] / widths[-1]) ** 0.5) << len(widths)  # exact for powers of two, rounded for others
            name = "-".join(map(str, (kind, *widths)))
            return _checked(name, shapes["0.weight"], head, side, shapes)
    return None


def _checked(name: str, first: tuple[int, ...], head: tuple[int, ...], side: int, shapes: Shapes) -> Candidate | None:
    classes, channels = head[0], first[1] if len(first) > 1 else 3
    fits = _fits(name, classes, (channels, side, side), shapes)
    return Candidate(name, classes, channels, side, fixed=True) if fits else None


def _nearest(shapes: Shapes) -> Guess:
    """Find the nearest network: rank all by the overlap of sketches, then compare the best ones exactly."""
    mine = sketch(shapes, {})
    scored = sorted(((alike(mine, entry.sketch), entry) for entry in index()), key=lambda pair: -pair[0])
    compared = [(_compare(entry, shapes), entry) for score, entry in scored[:COMPARED] if score >= NEAR]
    if not compared:
        return Guess(())
    difference, entry = min(compared, key=lambda pair: pair[0].number)
    more = "" if difference.missing or difference.wrong else left_over(entry.name, difference.own, difference.surplus)
    return Guess((), entry.name, str(difference), more)


@dataclass(frozen=True)
class Difference:
    """The tensors in which a checkpoint differs from a network."""

    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    wrong: tuple[str, ...]  # "name shape, not shape"
    own: int = 0  # number of the network's tensors

    @property
    def number(self) -> int:
        """The number of tensors that differ."""
        return len(self.missing) + len(self.surplus) + len(self.wrong)

    def __str__(self) -> str:
        """Describe how many tensors differ and name the first of each kind, as part of a sentence."""
        kinds = ((self.missing, "missing"), (self.surplus, "surplus"), (self.wrong, "of another shape"))
        return ", ".join(f"{len(of)} tensors {what} (first: {of[0]})" for of, what in kinds if of)


def _compare(entry: Entry, given: Shapes) -> Difference:
    """Compare a checkpoint with a network, ignoring lengths that depend on classes, channels or input size."""
    wanted, opened = built(entry.name, 2, (_channels(entry, given), entry.size, entry.size)), entry.open
    return Difference(
        missing=tuple(key for key in wanted if key not in given),
        surplus=tuple(key for key in given if key not in wanted),
        wrong=tuple(
            f"{key} {given[key]}, not {shape}"
            for key, shape in wanted.items()
            if key in given and masked(shape, opened.get(key)) != masked(given[key], opened.get(key))
        ),
        own=len(wanted),
    )
