"""Broken and hostile files, each made by a function of a folder that returns the path to give to `--teacher`."""

import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save as safe_bytes
from torch import Tensor, nn

from teachers import networks

Make = Callable[[Path], Path]
SHAPE, K, ARCH = (1, 8, 8), 10, "strided-4-8"
MARKER = "ran"  # a file that payloads leave in the working directory


class Payload:
    """Unpickles by calling something."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.made = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.made


def payloads() -> dict[str, object]:
    import importlib
    import runpy
    import shutil
    import subprocess

    touch = f"open({MARKER!r}, 'w').close()"
    return {
        "os.system": Payload(os.system, f"touch {MARKER}"),
        "exec": Payload(exec, touch),
        "eval": Payload(eval, touch),
        "popen": Payload(os.popen, f"touch {MARKER}"),
        "subprocess": Payload(subprocess.getoutput, f"touch {MARKER}"),
        "open": Payload(open, MARKER, "w"),
        "touch": Payload(Path.touch, Path(MARKER)),
        "mkdir": Payload(os.mkdir, MARKER),
        "copy": Payload(shutil.copy, "/etc/hostname", MARKER),
        "symlink": Payload(os.symlink, "/etc/hostname", MARKER),
        "runpy": Payload(runpy.run_module, "antigravity"),
        "import": Payload(importlib.import_module, "this"),
        "torch.load": Payload(torch.load, "other.pt"),
        "torch.save": Payload(torch.save, 1, MARKER),
        "getattr": Payload(getattr, "x", "__class__"),
        "partial": Payload(partial, os.system, f"touch {MARKER}"),
    }


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(networks.build(ARCH, K, SHAPE).state_dict())


def torch_bytes(content: object, *, legacy: bool = False, protocol: int = 2) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    return out.getvalue()


def put(content: bytes, name: str = "m.pt") -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def saved(content: Callable[[], object], *, legacy: bool = False) -> Make:
    def make(folder: Path) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return put(torch_bytes(content(), legacy=legacy))(folder)

    return make


def zipped(members: dict[str, bytes], *, packed: bool = False) -> Make:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as z:
        for name, content in members.items():
            z.writestr(name, content)
    return put(out.getvalue())


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as z:
        return {name: z.read(name) for name in z.namelist()}


def good() -> dict[str, bytes]:
    """Return files that open, by name, for others to break."""
    found = {
        "zip": torch_bytes({"state_dict": weights()}),
        "legacy": torch_bytes(weights(), legacy=True),
        "safetensors": safe_bytes(weights()),
    }
    return {**found, "onnx": onnx_bytes()} if has("onnx") else found


def has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def onnx_model() -> "onnx.ModelProto":  # type: ignore[name-defined]  # noqa: F821  # an extra
    import numpy as np
    from onnx import helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((64, K), np.float32), "weight")
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["y"])]
    x = helper.make_tensor_value_info("x", 1, ["n", *SHAPE])
    y = helper.make_tensor_value_info("y", 1, ["n", K])
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def onnx_bytes() -> bytes:
    return bytes(onnx_model().SerializeToString())


def cases() -> dict[str, Make]:
    """Return the corpus: every file of it must be refused."""
    parts = (pickles, truncated, foreign, zips, tensors, safetensors, onnx_files, folders, programs, places)
    found: dict[str, Make] = {}
    for part in parts:
        for name, make in part():
            assert name not in found, name
            found[f"{part.__name__}: {name}"] = make
    return found


def pickles() -> Iterator[tuple[str, Make]]:
    for name, payload in payloads().items():
        yield f"{name} raw", put(pickle.dumps(payload))
        yield f"{name} in a zip", saved(lambda p=payload: {"state_dict": weights(), "extra": p})  # type: ignore[misc]
        yield f"{name} in the old container", saved(lambda p=payload: {**weights(), "extra": p}, legacy=True)  # type: ignore[misc]
    evil = payloads()["os.system"]
    for protocol in range(6):
        yield f"protocol {protocol}", put(pickle.dumps({"state_dict": evil}, protocol=protocol))
    for protocol in (3, 4, 5):
        yield f"zip of protocol {protocol}", put(torch_bytes({"w": evil}, protocol=protocol))
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    yield "old container, evil version", put(magic + pickle.dumps(evil))
    yield "old container, evil system", put(magic + pickle.dumps(1001, protocol=2) + pickle.dumps(evil))
    yield "two pickles", put(pickle.dumps(1) + pickle.dumps(evil))
    yield "evil after a good zip", put(torch_bytes(weights())[:-22] + pickle.dumps(evil))
    for depth in (1_000, 500_000):
        for name, body in {"lists": b"]" * depth + b"a" * (depth - 1), "tuples": b"N" + b"\x85" * depth}.items():
            yield f"{name} {depth} deep", zipped({"m/data.pkl": b"\x80\x02" + body + b".", "m/version": b"3\n"})
    yield "no stop", zipped({"m/data.pkl": b"\x80\x02}", "m/version": b"3\n"})
    yield "a string that claims 2 GiB", zipped({"m/data.pkl": b"\x80\x02X\xff\xff\xff\x7fab.", "m/version": b"3\n"})
    yield "a memo far away", zipped({"m/data.pkl": b"\x80\x02}r\xff\xff\xff\xff.", "m/version": b"3\n"})
    yield "a memo that is not there", zipped({"m/data.pkl": b"\x80\x02h\x07.", "m/version": b"3\n"})


def truncated() -> Iterator[tuple[str, Make]]:
    for name, content in good().items():
        for part in (0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.99):
            yield f"{name} {part:.0%}", put(content[: int(part * len(content))])
        yield f"{name} without its last byte", put(content[:-1])


def foreign() -> Iterator[tuple[str, Make]]:
    heads = {
        "nothing": b"",
        "a byte": b"\x80",
        "text": b"hello, this is no model at all\n",
        "zeros": bytes(4096),
        "gguf": b"GGUF" + bytes(64),
        "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(64),
        "tflite": b"\x1c\0\0\0TFL3" + bytes(64),
        "numpy": b"\x93NUMPY\x01\0" + bytes(64),
        "gzip": b"\x1f\x8b\x08" + bytes(64),
        "xz": b"\xfd7zXZ\0" + bytes(64),
        "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        "web page": b"<!DOCTYPE html><html><body>404</body></html>",
        "old web page": b"<html><body>404</body></html>",
        "elf": b"\x7fELF" + bytes(64),
        "script": b"#!/bin/sh\ntouch ran\n",
        "python": b"import os; os.system('touch ran')\n",
        "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
        "json": b'{"state_dict": {}}',
        "protobuf of something else": b"\x08\x01" * 40,
        "noise": bytes((i * 73 + 41) % 256 for i in range(4096)),
    }
    for name, content in heads.items():
        yield name, put(content)


def zips() -> Iterator[tuple[str, Make]]:
    sound = members(torch_bytes(weights()))
    top = next(iter(sound)).partition("/")[0]
    index = f"{top}/data.pkl"
    yield "bomb in the index", zipped({**sound, index: bytes(50_000_000)}, packed=True)
    yield "bomb beside it", zipped({**sound, f"{top}/data/999": bytes(50_000_000)}, packed=True)
    yield "a large index", zipped({**sound, index: bytes(34 * 2**20)})
    yield "no index", zipped({k: v for k, v in sound.items() if k != index})
    yield "an empty index", zipped({**sound, index: b""})
    yield "no storage", zipped({k: v for k, v in sound.items() if "/data/" not in k})
    yield "one storage missing", zipped({k: v for k, v in sound.items() if k != f"{top}/data/0"})
    for name, change in {"halved": lambda b: b[: len(b) // 2], "empty": lambda b: b""}.items():
        yield f"a storage {name}", zipped({**sound, f"{top}/data/0": change(sound[f"{top}/data/0"])})
    yield "an unknown byte order", zipped({**sound, f"{top}/byteorder": b"sideways"})
    yield "a version from the future", zipped({**sound, f"{top}/version": b"999999999\n"})
    yield "torchserve", zipped({"MAR-INF/MANIFEST.json": b"{}", "m.pt": b""})
    yield "npz", zipped({"a.npy": b"\x93NUMPY"})
    yield "keras", zipped({"config.json": b"{}", "model.weights.h5": b"\x89HDF"})
    yield "office", zipped({"[Content_Types].xml": b"<x/>", "word/document.xml": b"<x/>"})
    yield "empty zip", put(b"PK\x05\x06" + bytes(18))
    yield "only a head", put(b"PK\x03\x04" + bytes(200))
    yield "outside names", zipped({"../../evil": b"x", "/etc/evil": b"x"})
    content = bytearray(torch_bytes(weights()))
    at = content.rindex(b"PK\x01\x02")
    for name, offset, value in (
        ("encrypted", 8, struct.pack("<H", 1)),
        ("an unknown compression", 10, struct.pack("<H", 77)),
        ("a size too large", 24, struct.pack("<I", 2**31)),
        ("both sizes too large", 20, struct.pack("<II", 2**31, 2**31)),
        ("a place outside", 42, struct.pack("<I", 2**31)),
    ):
        changed = content.copy()
        changed[at + offset : at + offset + len(value)] = value
        yield name, put(bytes(changed))
    yield "two members of one name", _twice
    yield "members that overlap", _overlapping


def _twice(folder: Path) -> Path:
    path = folder / "m.pt"
    path.write_bytes(torch_bytes(weights()))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as z:
        warnings.simplefilter("ignore")
        z.writestr(next(n for n in z.namelist() if n.endswith("data.pkl")), pickle.dumps(payloads()["exec"]))
    return path


def _overlapping(folder: Path) -> Path:
    """Many names for one stretch of bytes, as in Fifield's bomb."""
    path = folder / "m.pt"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("m/data.pkl", b"\x80\x02}.")
        z.writestr("m/data/0", bytes(100_000))
        for i in range(1, 200):
            again = zipfile.ZipInfo(f"m/data/{i}")
            first = z.infolist()[1]
            again.header_offset, again.file_size, again.compress_size, again.CRC = (
                first.header_offset,
                first.file_size,
                first.compress_size,
                first.CRC,
            )
            z.filelist.append(again)
            z.NameToInfo[again.filename] = again
    return path


class Declared:
    """Pickles as a tensor with an offset, size and stride of our choice, over a storage of eight values."""

    def __init__(self, offset: object, size: object, stride: object) -> None:
        self.asked = offset, size, stride
        held = torch.arange(8.0).untyped_storage()
        self.storage = torch.storage.TypedStorage(wrap_storage=held, dtype=torch.float32, _internal=True)

    def __reduce__(self) -> tuple[object, ...]:
        return torch._utils._rebuild_tensor_v2, (self.storage, *self.asked, False, OrderedDict())


def tensors() -> Iterator[tuple[str, Make]]:
    for name, declared in {
        "beyond its storage": (0, (9,), (1,)),
        "at an offset beyond": (4, (8,), (1,)),
        "at a negative offset": (-4, (4,), (1,)),
        "by a stride beyond": (0, (4,), (3,)),
        "by a negative stride": (7, (4,), (-1,)),
        "by no stride": (0, (1_000_000,), (0,)),
        "huge by no stride": (0, (2**40,), (0,)),
        "huger than any memory": (0, (2**62,), (1,)),
        "of sizes that overflow": (0, (2**33, 2**33), (0, 0)),
        "of a negative size": (0, (-3,), (1,)),
        "of a size that is no number": (0, ("three",), (1,)),
        "of a thousand dimensions": (0, (1,) * 1000, (0,) * 999),
    }.items():
        for legacy in (False, True):
            yield f"{name}{', old' if legacy else ''}", saved(lambda d=declared: {"w": Declared(*d)}, legacy=legacy)  # type: ignore[misc]
    broken: dict[str, Callable[[], object]] = {
        "nan": lambda: {"w": torch.tensor([1.0, torch.nan])},
        "infinity": lambda: {"w": torch.tensor([1.0, torch.inf])},
        "nan in half": lambda: {"w": torch.tensor([torch.nan]).bfloat16()},
        "sparse": lambda: {"w": torch.eye(4).to_sparse()},
        "quantised": lambda: {"w": torch.quantize_per_tensor(torch.eye(4), 0.1, 0, torch.qint8)},
        "without values": lambda: {"w": torch.empty(4, device="meta")},
        "no tensors": lambda: {"state_dict": {}, "epoch": 3},
        "an empty dict": dict,
        "a list": lambda: [torch.ones(3)],
        "a tensor": lambda: torch.ones(3),
        "none": lambda: None,
        "a number": lambda: 3,
        "text": lambda: "state_dict",
        "too many keys": lambda: {str(i): i for i in range(120_000)},
        "a view of many": lambda: {"w": torch.ones(1).expand(10_000_000)},
        "a module": lambda: nn.Linear(2, 2),
        "a module inside": lambda: {"model": nn.Linear(2, 2)},
        "a function": lambda: {"state_dict": weights(), "f": torch.nn.functional.relu},
        "a card of lies": lambda: {"state_dict": weights(), "distill_audit": '{"architecture": 3}'},
        "a card that is no JSON": lambda: {"state_dict": weights(), "distill_audit": "{" * 10_000},
    }
    for name, content in broken.items():
        yield name, saved(content)


def _safe(header: object, body: bytes = b"", length: int | None = None) -> Make:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return put(struct.pack("<Q", len(text) if length is None else length) + text + body)


def safetensors() -> Iterator[tuple[str, Make]]:
    def one(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
        return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}

    yield "a header longer than the file", _safe(one(), bytes(8), length=100)
    yield "a header of no length", _safe(b"{}" + bytes(20), length=0)
    yield "no json", _safe(b"{" + b"x" * 40, bytes(8))
    yield "deep json", _safe(b'{"a":' * 100_000, bytes(8))
    yield "a list", _safe(b"[1]     ", bytes(8))
    yield "no tensors", _safe({}, b"")
    yield "offsets beyond", _safe(one(offsets=(0, 80), shape=(20,)), bytes(8))
    yield "offsets backwards", _safe(one(offsets=(8, 0)), bytes(8))
    yield "negative offsets", _safe(one(offsets=(-8, 0)), bytes(8))
    yield "a hole", _safe(one(offsets=(8, 16)), bytes(16))
    yield "bytes left over", _safe(one(), bytes(64))
    yield "an unknown type", _safe(one(dtype="F99"), bytes(8))
    yield "a type that is no text", _safe(one(dtype=3), bytes(8))
    yield "a shape too large", _safe(one(shape=(3,)), bytes(8))
    yield "a shape that overflows", _safe(one(shape=(2**40, 2**40)), bytes(8))
    yield "a negative shape", _safe(one(shape=(-2,)), bytes(8))
    yield "a shape of text", _safe(one(shape="two"), bytes(8))
    yield "metadata of numbers", _safe({"__metadata__": {"a": 3}, **one()}, bytes(8))
    yield "tensors that overlap", _safe({**one(), "v": one()["w"]}, bytes(8))
    yield "nan", _safe(one(), struct.pack("<2f", 1.0, float("nan")))
    yield "a card of lies", put(safe_bytes(weights(), metadata={"distill_audit": "{}"}))
    yield "a header above the limit", _safe(b"{" + b" " * (33 * 2**20) + b"}", b"")

    def many(folder: Path) -> Path:
        return _safe({f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(100_001)})(folder)

    yield "too many keys", many


def onnx_files() -> Iterator[tuple[str, Make]]:
    if not has("onnx"):
        return

    def changed(change: Callable[..., object], *, beside: int | None = None, link: str = "") -> Make:
        def make(folder: Path) -> Path:
            model = onnx_model()
            change(model)
            inside = folder / "inside"
            inside.mkdir()
            (folder / "w.bin").write_bytes(bytes(64 * K * 4))
            if link:
                (inside / "w.bin").symlink_to(link)
            elif beside is not None:
                (inside / "w.bin").write_bytes(bytes(beside))
            return put(model.SerializeToString(), "m.onnx")(inside)

        return make

    def external(**where: object) -> Callable[..., object]:
        def change(model: object) -> None:
            tensor = model.graph.initializer[0]  # type: ignore[attr-defined]
            tensor.ClearField("raw_data")
            tensor.data_location = 1
            for key, value in where.items():
                tensor.external_data.add(key=key, value=str(value))

        return change

    size = 64 * K * 4
    yield "above its folder", changed(external(location="../w.bin"))
    yield "by a way around", changed(external(location="x/../../w.bin"))
    yield "at an absolute place", changed(external(location="/etc/hostname"))
    yield "behind a link", changed(external(location="w.bin"), link="../w.bin")
    yield "behind a link to a device", changed(external(location="w.bin"), link="/dev/zero")
    yield "a folder for data", changed(external(location="."))
    yield "no place", changed(external())
    yield "not there", changed(external(location="gone.bin"))
    yield "too short", changed(external(location="w.bin"), beside=size - 4)
    yield "longer than declared", changed(external(location="w.bin", length=size + 4), beside=size + 4)
    yield "an offset beyond", changed(external(location="w.bin", offset=size), beside=size)
    yield "a negative offset", changed(external(location="w.bin", offset=-4, length=size), beside=size)
    yield "an offset of text", changed(external(location="w.bin", offset="x"), beside=size)
    yield "itself", changed(external(location="m.onnx"))
    yield "nul in a name", changed(external(location="a\0b"))

    def initializer(**fields: object) -> Callable[..., object]:
        def change(model: object) -> None:
            for key, value in fields.items():
                setattr(model.graph.initializer[0], key, value)  # type: ignore[attr-defined]

        return change

    yield "values missing", changed(initializer(raw_data=bytes(size - 4)))
    yield "values left over", changed(initializer(raw_data=bytes(size + 4)))
    yield "nan", changed(initializer(raw_data=struct.pack("<f", float("nan")) * (64 * K)))
    yield "an unknown type", changed(initializer(data_type=99))
    yield "a huge shape", changed(lambda m: m.graph.initializer[0].dims.__setitem__(0, 2**40))
    yield "a negative shape", changed(lambda m: m.graph.initializer[0].dims.__setitem__(0, -64))
    yield "an empty graph", changed(lambda m: m.graph.ClearField("node"))
    yield "no outputs", changed(lambda m: m.graph.ClearField("output"))
    yield "a foreign operator", changed(lambda m: setattr(m.graph.node[0], "domain", "evil"))
    yield "an unknown operator", changed(lambda m: setattr(m.graph.node[0], "op_type", "Evil"))
    yield "an opset from the future", changed(lambda m: setattr(m.opset_import[0], "version", 10_000))
    yield "a circle", changed(lambda m: m.graph.node[0].input.__setitem__(0, "y"))
    yield "memory without end", changed(_constant_without_end)
    yield "graphs in graphs", put(_graphs_in_graphs())


def _constant_without_end(model: object) -> None:
    import numpy as np
    from onnx import helper, numpy_helper

    graph = model.graph  # type: ignore[attr-defined]
    graph.initializer.append(numpy_helper.from_array(np.array([2**34], np.int64), "many"))
    graph.node.insert(0, helper.make_node("ConstantOfShape", ["many"], ["filled"]))
    graph.node.insert(1, helper.make_node("ReduceSum", ["filled"], ["sum"], keepdims=0))
    graph.node.append(helper.make_node("Add", ["y", "sum"], ["z"]))
    graph.output[0].name = "z"


def _graphs_in_graphs() -> bytes:
    """Write ModelProto { ir_version, graph { node { attribute { g { node { …, deeper than protobuf itself would."""

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    graph = b""
    for _ in range(1_000):
        graph = field(1, field(5, field(6, graph)))
    return b"\x08\x08" + field(7, graph)


def folders() -> Iterator[tuple[str, Make]]:
    config = {"model_type": "resnet", "architectures": ["ResNetForImageClassification"], "num_labels": K}

    def folder_of(files: dict[str, bytes | str | dict[str, object]], links: dict[str, str] | None = None) -> Make:
        def make(folder: Path) -> Path:
            home = folder / "hf"
            home.mkdir()
            (folder / "outside.safetensors").write_bytes(safe_bytes(weights()))
            for name, content in files.items():
                text = json.dumps(content) if isinstance(content, dict) else content
                (home / name).write_bytes(text.encode() if isinstance(text, str) else text)
            for name, target in (links or {}).items():
                (home / name).symlink_to(target)
            return home

        return make

    sound = safe_bytes(weights())
    index = "model.safetensors.index.json"
    yield "nothing", folder_of({})
    yield "no config", folder_of({"model.safetensors": sound})
    yield "tensorflow", folder_of({"saved_model.pb": b"x"})
    yield "no weights", folder_of({"config.json": config})
    yield "linked weights", folder_of({"config.json": config}, {"model.safetensors": "../outside.safetensors"})
    yield "linked config", folder_of({"model.safetensors": sound}, {"config.json": "/etc/hostname"})
    yield "a linked folder", folder_of({"config.json": config, "model.safetensors": sound}, {"more": ".."})
    yield "a link to itself", folder_of({"config.json": config, "model.safetensors": sound}, {"x": "x"})
    yield "a link to a device", folder_of({"config.json": config}, {"model.safetensors": "/dev/zero"})
    yield (
        "code of its own",
        folder_of({"config.json": {**config, "auto_map": {"A": "m.M"}}, "model.safetensors": sound}),
    )
    yield "timm", folder_of({"config.json": {"architecture": "resnet18"}, "model.safetensors": sound})
    yield "no type", folder_of({"config.json": {"num_labels": 3}, "model.safetensors": sound})
    yield "a language model", folder_of({"config.json": {**config, "architectures": ["BertForMaskedLM"]}})
    yield "a type that is no text", folder_of({"config.json": {**config, "model_type": 3}, "model.safetensors": sound})
    yield "architectures that are no list", folder_of({"config.json": {**config, "architectures": 7}})
    yield "config no json", folder_of({"config.json": "{", "model.safetensors": sound})
    yield "config a list", folder_of({"config.json": "[]", "model.safetensors": sound})
    yield "config deep", folder_of({"config.json": "[" * 100_000, "model.safetensors": sound})
    yield "config long", folder_of({"config.json": " " * 5_000_000, "model.safetensors": sound})
    yield "config in no encoding", folder_of({"config.json": b"\xff\xfe\x00\x80", "model.safetensors": sound})
    yield "shards outside", folder_of({"config.json": config, index: {"weight_map": {"w": "../outside.safetensors"}}})
    yield "shards at an absolute place", folder_of({"config.json": config, index: {"weight_map": {"w": "/etc/passwd"}}})
    yield "shards missing", folder_of({"config.json": config, index: {"weight_map": {"w": "gone.safetensors"}}})
    yield "no shards", folder_of({"config.json": config, index: {"weight_map": {}}})
    yield "shards of no map", folder_of({"config.json": config, index: {"weight_map": [1, 2]}})
    yield "truncated weights", folder_of({"config.json": config, "model.safetensors": sound[:-9]})
    yield "weights of text", folder_of({"config.json": config, "pytorch_model.bin": b"hello"})
    yield "nan", folder_of({"config.json": config, "model.safetensors": safe_bytes({"w": torch.tensor([torch.nan])})})
    for name in ("os.system", "exec", "open"):
        evil = {"w": torch.ones(1), "x": payloads()[name]}
        yield f"{name} in weights", folder_of({"config.json": config, "pytorch_model.bin": torch_bytes(evil)})
    raw = pickle.dumps(payloads()["os.system"])
    yield "a raw pickle for weights", folder_of({"config.json": config, "pytorch_model.bin": raw})


def programs() -> Iterator[tuple[str, Make]]:
    def export(folder: Path) -> Path:
        exported = torch.export.export(nn.Sequential(nn.Flatten(), nn.Linear(64, K)), (torch.rand(2, *SHAPE),))
        with (folder / "m.pt2").open("wb") as f:
            torch.export.save(exported, f)
        return folder / "m.pt2"

    yield "export", export
    yield "torchscript", zipped({"m/constants.pkl": b"x", "m/data.pkl": b"x", "m/code/__torch__/evil.py": b"x"})
    yield "torchscript without code", zipped({"m/constants.pkl": b"x", "m/data.pkl": b"x"})
    yield (
        "an old export",
        zipped({"serialized_exported_program.json": b"{}", "m/serialized_exported_program.json": b"{}"}),
    )
    yield "a compiled export", zipped({"m/archive_format": b"pt2", "m/data/aotinductor/model/x.so": b"\x7fELF"})
    raw = pickle.dumps(payloads()["exec"])
    yield "an export with pickled inputs", zipped({"m/archive_format": b"pt2", "m/data/sample_inputs/model.pt": raw})


def places() -> Iterator[tuple[str, Make]]:
    def pipe(folder: Path) -> Path:
        os.mkfifo(folder / "m.pt")
        return folder / "m.pt"

    def nowhere(folder: Path) -> Path:
        (folder / "m.pt").symlink_to("gone.pt")
        return folder / "m.pt"

    def terabyte(folder: Path) -> Path:
        path = put(good()["safetensors"])(folder)
        os.truncate(path, 2**40)
        return path

    yield "larger than memory", terabyte
    yield "a pipe", pipe
    yield "a link to nothing", nowhere
    yield "a device", lambda folder: Path("/dev/zero")
    yield "nothing", lambda folder: folder / "gone.pt"
    yield "a name of 300 letters", lambda folder: folder / ("m" * 300)
