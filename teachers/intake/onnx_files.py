"""Check ONNX files without running them, and allow external data in their folder only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from teachers.errors import RefusedInput
from teachers.extras import install

UNSIZED = ("INT4", "INT2", "FLOAT4", "STRING", "UNDEFINED")  # types without a fixed size, or smaller than a byte
FLOATS = {1: np.float32, 10: np.float16, 11: np.float64}  # by TensorProto's type numbers


def require() -> None:
    """Raise RefusedInput, which says how to install the extra, if it is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as e:
        raise RefusedInput(f"ONNX files need {e.name or 'onnxruntime'}; {install('onnx')}") from e


def check(path: Path) -> list[str]:
    """Check an ONNX file without running its graph; return the names of its files of external data.

    Raises RefusedInput for a damaged file, values that are NaN or not as many as declared, and external data outside
    the folder of the file.
    """
    require()
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, RuntimeError, TypeError) as e:
        raise RefusedInput(f"{path} is a damaged ONNX file ({str(e)[:100]}); export it again") from e
    if not model.graph.node or not model.graph.output:
        raise RefusedInput(f"{path} is an ONNX file with an empty graph; export it again")
    beside: dict[str, None] = {}
    for tensor in _all_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            beside[_inside(path, tensor, _place(path, tensor))] = None
        elif tensor.raw_data:
            _values(path, tensor, tensor.raw_data)
        elif tensor.data_type in (1, 11) and np.isnan(tensor.float_data or tensor.double_data).any():
            raise _broken(path, tensor)
    open_session(path)
    return list(beside)


def parameters(path: Path) -> int:
    """Return the number of float values in the graph of a checked file, including running statistics."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return sum(math.prod(t.dims) for t in graph.initializer if t.data_type in FLOATS)


def _all_tensors(model: Any) -> Iterator[Any]:
    """Yield the tensors of a model's graph and functions."""
    yield from _tensors(model.graph)
    for function in model.functions:
        yield from _in_nodes(function.node)


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield the tensors of a graph and of the graphs inside it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from ([attribute.t] if attribute.HasField("t") else [])
            yield from attribute.tensors
            for sparse in [
                *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
                *attribute.sparse_tensors,
            ]:
                yield from (sparse.values, sparse.indices)
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _tensors(inner)


def _size(tensor: Any) -> int | None:
    """Return the number of bytes that a tensor's shape declares; None for types in UNSIZED."""
    import onnx

    try:
        item = int(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize)
    except (KeyError, TypeError, ValueError):
        return None
    if any(kind in onnx.TensorProto.DataType.Name(tensor.data_type) for kind in UNSIZED):
        return None
    return item * math.prod(int(d) for d in tensor.dims)


def _place(path: Path, tensor: Any) -> dict[str, str]:
    """Return the location of a tensor's external data.

    Raises RefusedInput if it is given twice, or names memory instead of a file, which onnxruntime would read.
    """
    where = {entry.key: entry.value for entry in tensor.external_data}
    if len(where) < len(tensor.external_data) or "*" in where.get("location", ""):
        raise RefusedInput(
            f"{path}: {tensor.name[:80]!r} has two locations, or one that is not a file; export it in one piece"
        )
    return where


def _inside(path: Path, tensor: Any, where: dict[str, str]) -> str:
    """Return the name of a tensor's external file, which must be a plain file in the folder and hold all its bytes."""
    location = where.get("location", "")
    name = f"{path}: {tensor.name[:80]!r} lies in {location[:80]!r}"
    file = path.parent / location
    home = path.parent.resolve()
    parts = Path(location).parts
    plain = parts and "\0" not in location and ".." not in parts and not Path(location).is_absolute()
    if not plain or file.resolve() != home / location:
        raise RefusedInput(f"{name}, outside the folder of the file or behind a link; export it in one piece")
    if not file.is_file():
        raise RefusedInput(f"{name}, which is not there; put it beside the file")
    try:
        offset = int(where.get("offset") or 0)
        length = int(where["length"]) if where.get("length") else file.stat().st_size - offset
    except ValueError as e:
        raise RefusedInput(f"{name}, at a place that is not a number; export it again") from e
    declared = _size(tensor)
    if offset < 0 or length < 0 or offset + length > file.stat().st_size or (declared or length) != length:
        raise RefusedInput(f"{name}, which does not hold as many bytes as its shape declares; export it again")
    with file.open("rb") as f:
        f.seek(offset)
        _values(path, tensor, f.read(length))
    return location


def _values(path: Path, tensor: Any, raw: bytes) -> None:
    declared = _size(tensor)
    if declared is not None and declared != len(raw):
        raise RefusedInput(
            f"{path}: {tensor.name[:80]!r} has {len(raw)} bytes but its shape declares {declared}; export it again"
        )
    # Infinity is allowed: attention masks use it.
    if tensor.data_type in FLOATS and np.isnan(np.frombuffer(raw, FLOATS[tensor.data_type])).any():
        raise _broken(path, tensor)


def _broken(path: Path, tensor: Any) -> RefusedInput:
    return RefusedInput(f"{path}: {tensor.name[:80]!r} has NaN values; this model is broken")


def open_session(path: Path) -> Any:
    """Return an onnxruntime session with one thread.

    Raises RefusedInput if onnxruntime does not accept the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime's exceptions have no other common base
        text = re.sub(r"^.*?(failed:|: [A-Z_]+ :) *(/onnxruntime_src/.*\) )?", "", " ".join(str(e).split()))
        if "alloc" in text.lower() and "memory" in text.lower():
            raise MemoryError from e
        raise RefusedInput(f"{path} is not accepted by onnxruntime ({text[:200]}); export it again") from e
