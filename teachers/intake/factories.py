"""Make a network with the user's own code: `--arch module:factory`, a class or a function.

Only the command line and the Python API name a factory; no card, configuration or record does. Its code runs where
programs run: in the jail first, then in the teacher's own process.
"""

from __future__ import annotations

import hashlib
import inspect
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from teachers import imports
from teachers.errors import RefusedInput, UsageError
from teachers.intake import channels
from teachers.intake.fingerprint import COUNTER
from teachers.intake.fit import fitted
from teachers.intake.programs import ProgramNetwork, Shape
from teachers.intake.readers import TRUST
from teachers.intake.weights import Weights, open_weights

# Libraries that are no modules here: `timm:resnet18` is a name of timm's.
FACTORY = re.compile(rf"(?!(timm|torchvision):)[^:]+:{imports.DOTTED}")
EXAMPLE = "--arch mypackage.models:make_net"
CONSENT = "--trust-model-code"
CLASSES = "num_classes"  # the argument that a factory may take
ADDRESS = re.compile(r"0x[0-9a-fA-F]+")  # of an object in memory
TENSORS = "given.safetensors"


def is_factory(architecture: str | None) -> bool:
    """Whether an architecture is code of the user's own, `module:factory`."""
    return architecture is not None and FACTORY.fullmatch(architecture) is not None


def open_for(path: Path, factory: str, trust: bool, name: str | None) -> Weights:
    """Open a checkpoint for a network that a factory makes; nothing is imported here.

    `trust` is in the factory: of the file, only the tensors are read. Raises UsageError without it, or if the file
    says itself which network it is; and what `open_weights` raises.
    """
    imports.check_name(factory, EXAMPLE)
    if not trust:
        raise UsageError(f"--arch {factory} is code that would run under your account; if you trust it, give {CONSENT}")
    try:
        weights = open_weights(path, name=name)
    except RefusedInput as e:
        raise RefusedInput(str(e).replace(TRUST, f"{CONSENT} without --arch runs it")) from e
    if weights.is_program or weights.card is not None:
        raise brings_its_own(weights, factory)
    declared = next((t.shape[1] for t in weights.tensors.values() if t.ndim == 4), None)
    return replace(weights, factory=factory, declared=declared if declared in channels.READ else None)


def brings_its_own(weights: Weights, architecture: str) -> UsageError:
    """Return the error that a checkpoint brings its own architecture."""
    return UsageError(f"{weights.path} brings its own architecture; leave --arch {architecture} out")


def written(tensors: Mapping[str, Tensor], folder: Path) -> Path:
    """Write tensors for another process, and return the file."""
    from safetensors.torch import save_file

    file = folder / TENSORS
    save_file({name: t.contiguous() for name, t in tensors.items()}, file)
    return file


def load(weights: Weights, shape: Shape, classes: int, tensors: Mapping[str, Tensor] | Path) -> ProgramNetwork:
    """Make the network of a checkpoint and give it all its `tensors`, which a file may hold.

    This runs the user's code. Raises UsageError if there is no such code, or if it makes no network; RefusedInput that
    names the tensors that differ.
    """
    from safetensors.torch import load_file

    held = load_file(tensors) if isinstance(tensors, Path) else tensors
    network, factory = _made(weights.factory, classes), weights.factory
    wanted = imports.run(partial(_state, network, shape), f"{factory} makes a network that shows no tensors")
    own = fitted(replace(weights, tensors=dict(held)), wanted, factory, classes)

    filled = imports.run(partial(_filled, network, own), f"{factory} does not take the tensors of {weights.path}")
    answering = ProgramNetwork(filled, weights.label, classes).eval()
    answering.wanted = weights.output
    return answering


def code(factory: str, network: nn.Module, shape: Shape) -> str:
    """Return the digest of the code that made a network, of what it imports to answer, and of the layers it shows."""
    with torch.no_grad():
        network(torch.zeros(1, *shape))
    layers = ADDRESS.sub("", imports.run(partial(repr, network), f"{factory} makes a network that cannot be printed"))
    return hashlib.sha256(f"{imports.digest(factory)} {layers}".encode("utf-8", "replace")).hexdigest()


def _state(network: nn.Module, shape: Shape) -> dict[str, Tensor]:
    """Return a network's tensors by name; those that it makes when it first answers, too."""
    if any(is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers())):
        with torch.no_grad():
            network.eval()(torch.zeros(1, *shape))
    return {name: t for name, t in network.state_dict().items() if isinstance(t, Tensor)}


def _filled(network: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    missing, _ = network.load_state_dict(tensors, strict=False)
    if lacking := [name for name in missing if not name.endswith(COUNTER)]:
        raise LookupError(f"{lacking[0]} is missing")
    return network.float().eval()


def _made(factory: str, classes: int) -> nn.Module:
    code = imports.found(factory)
    if isinstance(code, nn.Module) or not callable(code):
        raise UsageError(f"{factory} is {_a(code)}; give a class or a function that makes a network")
    torch.manual_seed(0)  # what is no tensor of the checkpoint is the same each time
    random.seed(0)
    np.random.seed(0)
    made = imports.run(_call(factory, code, classes), f"{factory} makes no network")
    if not isinstance(made, nn.Module):
        raise UsageError(f"{factory} returns {_a(made)}; it must return a torch.nn.Module")
    return made


def _call(factory: str, code: Callable[..., object], classes: int) -> Callable[[], object]:
    """Return the call of a factory: with the number of classes if it names that argument, else without any."""
    try:
        signature = inspect.signature(code)
    except (TypeError, ValueError):  # it is written in C
        return code
    given = {CLASSES: classes}
    named = CLASSES in signature.parameters
    try:
        signature.bind(**given if named else {})
    except TypeError as e:
        raise UsageError(f"{factory} cannot be called ({e}); it may need {CLASSES} and nothing else") from e
    if not named and any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return partial(_with_or_without, code, given)
    return partial(code, **given if named else {})


def _with_or_without(code: Callable[..., object], given: Mapping[str, Any]) -> object:
    """Call a factory that takes any keyword, and again without one if it knows none of this name."""
    try:
        return code(**given)
    except TypeError as e:
        if CLASSES not in str(e):
            raise
        return code()


def _a(held: object) -> str:
    kind = type(held).__name__
    return f"a {kind}" if kind[0] not in "aeiouAEIOU" else f"an {kind}"
