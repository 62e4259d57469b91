"""Build a callable network from weights and an architecture."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from torch import nn

from teachers import guards, networks
from teachers.errors import RefusedInput, UsageError
from teachers.files import composed
from teachers.intake import factories
from teachers.intake.architecture import weightless
from teachers.intake.card import GUARD, Card
from teachers.intake.fit import fitted
from teachers.intake.formats import Program
from teachers.intake.jail import GIB, Limits, confined, limits
from teachers.intake.normalise import normalisation
from teachers.intake.programs import Explored, Head, ProgramNetwork, explore, program, rehearse
from teachers.intake.weights import Weights
from teachers.networks import PreprocessedNetwork, ReorderedNetwork


@dataclass(frozen=True)
class Teacher:
    """A network with its preprocessing: raw pixels in [0, 1] to logits."""

    name: str
    sha256: str
    network: nn.Module | None  # None if it is behind an API or in another process
    architecture: str
    method: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    card: Card | None = None
    apart: int | None = None  # number of parameters if another process holds the network
    program: bool = False  # the file is a program: the digest is the file's, not its tensors'
    code: str = ""  # digest of the user's own code that made the network, if any
    synthetic: bool = False  # built in, and no trained model: the digest is that of its ingredients

    bgr: bool = False  # whether the network expects channels in the order blue, green, red
    order: tuple[int, ...] = ()  # for each class of the task, the index of its output, if not in the same order
    output: str = ""  # type of the network's own outputs, if recognised: logits, probabilities…
    named: str = ""  # the output that the user names, if a program has several

    @property
    def taken(self) -> str:
        """A line that names which of a program's several outputs is used; known after the first answer."""
        inner = self.network.network if isinstance(self.network, PreprocessedNetwork) else None
        return inner.told if isinstance(inner, ProgramNetwork) else ""

    @property
    def parameters(self) -> int | None:
        """The number of parameters, also inside a program; None if unknown."""
        if self.network is None:
            return self.apart
        held = sum(p.numel() for p in self.network.parameters())
        return held or sum(getattr(m, "parameters_inside", 0) for m in self.network.modules())

    @property
    def here(self) -> nn.Module:
        """The network, which this process holds.

        Raises RefusedInput if it is behind an API or in another process.
        """
        if self.network is None:
            raise RefusedInput(f"{self.name} is behind an API, which shows only answers; give its checkpoint")
        return self.network


def assemble(weights: Weights, architecture: str, classes: int, shape: networks.Shape, normalize: str) -> Teacher:
    """Load a checkpoint's tensors into a network, or load the program that the checkpoint is.

    Raises RefusedInput that names the keys or shapes that differ.
    """
    mean, std, bgr = normalisation(normalize, shape[0])
    if weights.is_program:
        if architecture not in ("", weights.factory):
            raise factories.brings_its_own(weights, architecture)
        answering = PreprocessedNetwork(_rehearsed(weights, classes, shape), mean, std, bgr)
        name, named = weights.path.resolve().name, weights.output
        loaded = Teacher(name, weights.sha256, answering, weights.program, "unknown", mean, std, bgr=bgr, named=named)
        if weights.factory:
            return replace(loaded, code=factories.code(weights.factory, answering, shape))
        return replace(loaded, program=True)
    card = weights.card
    own = fitted(weights, weightless(architecture, classes, shape).state_dict(), architecture, classes)
    # Only after the check, so that a tiny file that names a large network does not make us build it.
    network = networks.build(architecture, classes, shape)
    networks.try_out(network.eval(), architecture, classes, shape)
    network.load_state_dict(own)
    whole = PreprocessedNetwork(network, mean, std, bgr)
    if card is not None and card.guard:
        kept = {n.removeprefix(GUARD): t for n, t in weights.tensors.items() if n.startswith(GUARD)}
        whole = guards.behind(whole, guards.restore(card.guard, classes, kept))
    method = card.method if card else "unknown"
    return Teacher(weights.path.name, weights.sha256, whole, architecture, method, mean, std, card, bgr=bgr)


def reordered(teacher: Teacher, names: tuple[str, ...], classes: tuple[str, ...]) -> Teacher:
    """Reorder a network's outputs, which follow the order of `names`, to the order of a task's classes.

    Raises UsageError if they do not name the same classes.
    """
    order = order_of(names, classes)
    network = teacher.network
    if order == tuple(range(len(order))) or not isinstance(network, PreprocessedNetwork):
        return teacher
    return replace(teacher, network=network.around(ReorderedNetwork(network.network, order)), order=order)


def order_of(names: tuple[str, ...], classes: tuple[str, ...]) -> tuple[int, ...]:
    """Return for each class of a task the index of its output, given the teacher's order of class `names`.

    Raises UsageError if they do not name the same classes.
    """
    names, classes = tuple(map(composed, names)), tuple(map(composed, classes))
    if odd := sorted(set(names) ^ set(classes)):
        raise UsageError(f"--classes: the file and the data must name the same classes; only one has {odd[0]!r}")
    if len(names) != len(classes):
        raise UsageError(f"--classes: {len(names)} lines name {len(classes)} classes; name each once")
    return tuple(names.index(name) for name in classes)


def _rehearsed(weights: Weights, classes: int, shape: networks.Shape) -> nn.Module:
    """Load a program in this process, after it has loaded and answered in the jail."""
    _rehearse(weights, classes, shape)
    if weights.factory:
        return factories.load(weights, shape, classes, weights.tensors)
    return program(weights.path, cast(Program, weights.kind), shape, classes, weights.tensors, weights.output)


def answers(weights: Weights, classes: int, shape: networks.Shape) -> bool:
    """Whether a program answers images of a shape; tried in the jail."""
    try:
        _rehearse(weights, classes, shape)
    except RefusedInput:
        return False
    return True


def explored(weights: Weights) -> Explored:
    """Ask a program about noise, in the jail: which images it takes, and what it puts out.

    Raises RefusedInput if it does not load, or answers none of the usual shapes.
    """

    work = partial(explore, weights.path, cast(Program, weights.kind), weights.label)
    with tempfile.TemporaryDirectory(prefix="distill-audit-") as folder:
        found = confined(work, Path(folder), weights.label, _room(weights.path))
    heads = tuple(Head(head["name"], head["numbers"], head["kind"]) for head in found["heads"])
    C, H, W = found["shape"]
    return Explored((C, H, W), found["fixed"], found["parameters"], heads)


def _room(path: Path) -> Limits:
    """Return the limits for running a program that lies in a file or folder."""
    size = sum(f.stat().st_size for f in (path.rglob("*") if path.is_dir() else [path]))
    return limits(size, base=4 * GIB, times=6)


def _rehearse(weights: Weights, classes: int, shape: networks.Shape) -> None:
    path = weights.path
    with tempfile.TemporaryDirectory(prefix="distill-audit-") as folder:
        if weights.factory:
            held = factories.written(weights.tensors, Path(folder))
            load = partial(factories.load, replace(weights, tensors={}), shape, classes, held)
        else:
            load = partial(program, path, cast(Program, weights.kind), shape, classes, None, weights.output)
        work = partial(rehearse, load, weights.label, shape, classes)
        confined(work, Path(folder), weights.label, _room(path))
