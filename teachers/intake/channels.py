"""Find how many input channels a network has, which decides how a data set's images are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from teachers.errors import AuditError
from teachers.intake import huggingface, readers

READ = (1, 3)  # channels that images can have: gray, or red, green and blue


def read(path: Path, trust: bool, folder: Path) -> dict[str, Any]:
    """Read a file as `readers.read` does, and add the number of input channels if it is a program."""
    found = readers.read(path, trust, folder)
    look = LOOKS.get(str(found["kind"]))
    if look is None:
        return found
    try:
        channels = look(path)
    except (AuditError, MemoryError):
        raise
    except Exception:  # the file is readable; if it does not state its channels, its answers will show them
        channels = None
    return {**found, "channels": channels if channels in READ else None}


def of_shape(declared: Sequence[int | None]) -> int | None:
    """Return the channels of a declared input (N, C, H, W) or (N, H, W, C); unknown sizes are None or below 1."""
    if len(declared) != 4:
        return None
    return next((declared[at] for at in (1, 3) if declared[at] in READ), None)


def _onnx(path: Path) -> int | None:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    images = next(given for given in graph.input if given.name not in held)
    declared = of_shape([dim.dim_value or None for dim in images.type.tensor_type.shape.dim])
    if declared is not None:
        return declared
    first = next(node for node in graph.node if node.op_type == "Conv")
    groups = next((attribute.i for attribute in first.attribute if attribute.name == "group"), 1)
    return int(held[first.input[1]].dims[1] * groups)


def _huggingface(path: Path) -> int:
    return int(huggingface.configuration(path).get("num_channels", 3))


def _torchscript(path: Path) -> int | None:
    import torch

    with path.open("rb") as f:
        network = torch.jit.load(f, map_location="cpu")  # type: ignore[no-untyped-call]
    return next((int(p.shape[1]) for p in network.parameters() if p.dim() == 4), None)


def _export(path: Path) -> int | None:
    import torch

    with path.open("rb") as f:
        exported = torch.export.load(f)
    names = set(exported.graph_signature.user_inputs)
    taken = next(n.meta["val"] for n in exported.graph.nodes if n.op == "placeholder" and n.name in names)
    return of_shape([d if isinstance(d, int) else None for d in taken.shape])


def _module(path: Path) -> int | None:
    from torch import nn

    network = readers.module_in(readers.unpickled(path))
    layers = network.modules() if network is not None else ()
    return next((layer.in_channels for layer in layers if isinstance(layer, nn.Conv2d)), None)


LOOKS: dict[str, Callable[[Path], int | None]] = {
    "onnx": _onnx,
    "huggingface": _huggingface,
    "torchscript": _torchscript,
    "export": _export,
    "module": _module,
}
