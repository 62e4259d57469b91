"""Hostile checkpoints: pickles that call, declare or swell, each made by a function of a folder."""

import gzip
import io
import os
import pickle
import socket
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from hostile import Make, Payload, put, saved, torch_bytes, weights, zipped


def cases() -> dict[str, Make]:
    """Return the corpus: every file of it must be refused."""
    found: dict[str, Make] = {}
    for part in (called, written, declared, swollen, places):
        for name, make in part():
            assert name not in found, name
            found[f"{part.__name__}: {name}"] = make
    return found


def index(*named: tuple[str, str], call: bytes = b"(tR") -> bytes:
    """Write the pickle of a dict of a weight and of what calling some names gives."""
    body = b"".join(
        b"X" + struct.pack("<I", len(n)) + n.encode() + f"c{m}\n{n}\n".encode() + call + b"s" for m, n in named
    )
    return b"\x80\x02}" + body + b"."


def beside(*named: tuple[str, str], call: bytes = b"(tR") -> Make:
    """Put what a pickle calls beside sound weights."""

    def make(folder: Path) -> Path:
        content = torch_bytes({"state_dict": weights()})
        with zipfile.ZipFile(io.BytesIO(content)) as z:
            members = {name: z.read(name) for name in z.namelist()}
        at = next(name for name in members if name.endswith("data.pkl"))
        inner = index(*named, call=call)[3:-1]  # without protocol, dict and stop
        members[at] = members[at][:-1] + inner + b"."
        return zipped(members)(folder)

    return make


CALLED = {
    "subprocess": ("subprocess", "Popen"),
    "subprocess call": ("subprocess", "check_output"),
    "posix": ("posix", "execv"),
    "nt": ("nt", "system"),
    "commands of old": ("commands", "getoutput"),
    "popen2": ("popen2", "Popen3"),
    "pty": ("pty", "spawn"),
    "builtins exec": ("builtins", "exec"),
    "old builtins": ("__builtin__", "execfile"),
    "import": ("builtins", "__import__"),
    "compile": ("builtins", "compile"),
    "breakpoint": ("builtins", "breakpoint"),
    "code": ("code", "InteractiveConsole"),
    "a function's type": ("types", "FunctionType"),
    "a code's type": ("types", "CodeType"),
    "marshal": ("marshal", "loads"),
    "pickle": ("pickle", "loads"),
    "dill": ("dill._dill", "_create_function"),
    "cloudpickle": ("cloudpickle.cloudpickle", "_make_function"),
    "torch.hub": ("torch.hub", "load"),
    "torch.jit": ("torch.jit._serialization", "load"),
    "cpp": ("torch.utils.cpp_extension", "load_inline"),
    "a storage's bytes": ("torch.storage", "_load_from_bytes"),
    "a graph": ("torch.fx.graph_module", "reduce_graph_module"),
    "numpy's runstring": ("numpy.testing._private.utils", "runstring"),
    "numpy's load": ("numpy", "load"),
    "pip": ("pip._internal", "main"),
    "a browser": ("webbrowser", "open"),
    "ctypes": ("ctypes", "CDLL"),
    "a socket": ("socket", "socket"),
    "a file": ("_io", "FileIO"),
    "a method caller": ("operator", "methodcaller"),
    "an attribute getter": ("operator", "attrgetter"),
    "importlib": ("importlib.machinery", "SourceFileLoader"),
    "a script's function": ("__main__", "build"),
    "a stranger's function": ("evil.models", "get_model"),
    "timeit": ("timeit", "Timer"),
    "a process": ("multiprocessing.context", "Process"),
}


def called() -> Iterator[tuple[str, Make]]:
    for name, named in CALLED.items():
        yield f"{name} beside the weights", beside(named)
    for name in ("subprocess", "builtins exec", "nt"):
        yield f"{name} as an object", beside(CALLED[name], call=b")\x81")
        yield f"{name} named alone", beside(CALLED[name], call=b"")
    yield "an old instance", zipped({"m/data.pkl": b"\x80\x02(S'touch ran'\nios\nsystem\n."})
    yield "an instance of a name", zipped({"m/data.pkl": b"\x80\x02(cos\nsystem\nS'touch ran'\no."})
    yield "an attribute of a class", saved(lambda: {"w": weights(), "x": Payload(Path.unlink, Path("m.pt"))})
    inner = b"cbuiltins\ngetattr\n(cos\npath\nX\x02\0\0\0ostR"
    twice = b"\x80\x02cbuiltins\ngetattr\n(" + inner + b"X\x06\0\0\0systemtR."
    yield "an attribute of an attribute", zipped({"m/data.pkl": twice})
    yield "an extension", zipped({"m/data.pkl": b"\x80\x02\x82\x01."})
    yield (
        "what is named by parts",
        zipped({"m/data.pkl": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\x09touch ran\x85R."}),
    )
    yield "a persistent id of its own", zipped({"m/data.pkl": b"\x80\x02cos\nsystem\nQ."})
    yield "a persistent id of text", zipped({"m/data.pkl": b"\x80\x02Pstorage\n."})
    yield (
        "a module of old",
        zipped({"m/data.pkl": b"\x80\x02(X\x06\0\0\0modulecos\nsystem\nX\x01\0\0\0aX\x01\0\0\0btQ."}),
    )


def written() -> Iterator[tuple[str, Make]]:
    """Pickles that would change what stands in."""
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    state = b"}X\x08\0\0\0__code__K\x01s"
    yield "a state for a function of ours", zipped({"m/data.pkl": b"\x80\x02" + rebuild + state + b"b."})
    yield "slots for a function of ours", zipped({"m/data.pkl": b"\x80\x02" + rebuild + b"N" + state + b"\x86b."})
    yield "a state for a class", zipped({"m/data.pkl": b"\x80\x02cargparse\nNamespace\n" + state + b"b."})
    yield "a call of an instance", zipped({"m/data.pkl": b"\x80\x02cargparse\nNamespace\n)R)R."})
    yield "a call of a tensor", zipped({"m/data.pkl": b"\x80\x02" + rebuild + b"(NNNNtR)R."})
    yield "an object of a function", zipped({"m/data.pkl": b"\x80\x02" + rebuild + b")\x81."})
    yield "a key that is a list", zipped({"m/data.pkl": b"\x80\x02}]K\x01s."})


def declared() -> Iterator[tuple[str, Make]]:
    v2 = torch._utils._rebuild_tensor_v2
    held = torch.storage.TypedStorage(
        wrap_storage=torch.arange(8.0).untyped_storage(), dtype=torch.float32, _internal=True
    )
    for name, arguments in {
        "no storage": (None, 0, (2,), (1,), False, None),
        "a size that is true": (held, 0, (True,), (1,), False, None),
        "a size in a list": (held, 0, [2], (1,), False, None),
        "an offset of text": (held, "0", (2,), (1,), False, None),
        "an offset without end": (held, 2**70, (2,), (1,), False, None),
        "a stride without end": (held, 0, (2,), (2**62,), False, None),
        "sizes without end": (held, 0, (2**31, 2**31, 2**31), (0, 0, 0), False, None),
        "too few arguments": (held, 0),
    }.items():
        yield name, saved(lambda a=arguments: {"w": Payload(v2, *a)})  # type: ignore[misc]
    tensor = torch.ones(2, 2)
    yield "sparse rows", saved(lambda: {"w": tensor.to_sparse_csr()})
    yield "nested", saved(lambda: {"w": torch.nested.nested_tensor([tensor, tensor])})
    yield "an unknown rebuilder", zipped({"m/data.pkl": b"\x80\x02}X\1\0\0\0wctorch._utils\n_rebuild_evil\n)Rs."})


def swollen() -> Iterator[tuple[str, Make]]:
    sound = torch_bytes(weights())
    yield "gzip of a checkpoint", put(gzip.compress(sound))
    yield "gzip of gzip of zeros", put(gzip.compress(gzip.compress(bytes(64 * 2**20))))
    yield "a zip in a zip", zipped({"m/data.pkl": b"\x80\x02}.", "m/data/0": sound, "a.zip": sound})
    yield "a numpy header of 10^12", put(_npy((10**12,)))
    yield "numpy headers in an npz", zipped({"w.npy": _npy((10**12,))})
    yield "a numpy array of 10^12 for a weight", saved(lambda: {"w": Payload(np.ndarray, (10**12,))})
    yield "a numpy array of 10^12 beside nothing", put(_array())
    yield "a bytes object of 2^62", zipped({"m/data.pkl": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"ab."})
    yield "a number of 2^31 bytes", zipped({"m/data.pkl": b"\x80\x02\x8b" + struct.pack("<I", 2**31 - 1) + b"ab."})
    yield "a frame of 2^62", zipped({"m/data.pkl": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N."})
    yield "lists without end", zipped({"m/data.pkl": b"\x80\x02" + b"]" * 2_000_000 + b"."})
    yield "a dict that holds itself", zipped({"m/data.pkl": b"\x80\x02}q\0X\1\0\0\0ah\0s."})
    nested = b"".join(b"}X\1\0\0\0a" for _ in range(100_000)) + b"}" + b"s" * 100_000
    yield "dicts 100,000 deep", zipped({"m/data.pkl": b"\x80\x02" + nested + b"."})
    deep = b"{" + b'"a":[' * 50_000 + b"]" * 50_000 + b"}"
    yield "deep lists in a safetensors header", put(struct.pack("<Q", len(deep)) + deep)
    meta = b'{"__metadata__":' + b'{"a":' * 50_000
    yield "deep metadata in a safetensors header", put(struct.pack("<Q", len(meta)) + meta)
    huge = b'{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    yield "a safetensors shape of 10^12", put(struct.pack("<Q", len(huge)) + huge + bytes(8))


def _npy(shape: tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return out.getvalue()


def _array() -> bytes:
    return pickle.dumps(Payload(np.ndarray, (10**12,)))


def places() -> Iterator[tuple[str, Make]]:
    def pipe_for_weights(folder: Path) -> Path:
        (folder / "hf").mkdir()
        (folder / "hf" / "config.json").write_text('{"model_type": "resnet"}')
        os.mkfifo(folder / "hf" / "model.safetensors")
        return folder / "hf"

    def bound(folder: Path) -> Path:
        with socket.socket(socket.AF_UNIX) as s:
            here = os.getcwd()
            os.chdir(folder)
            s.bind("m.pt")
            os.chdir(here)
        return folder / "m.pt"

    def linked(target: str) -> Make:
        def make(folder: Path) -> Path:
            (folder / "m.pt").symlink_to(target)
            return folder / "m.pt"

        return make

    yield "a pipe in a folder", pipe_for_weights
    yield "a socket", bound
    yield "a link to zeros", linked("/dev/zero")
    yield "a link to nothing at all", linked("/dev/null")
    yield "a link to a terminal", linked("/dev/tty")
    yield "a link to itself", linked("m.pt")
