"""Which files open, which are refused and why: made here, opened by the real code, compared with the original network.

Writes docs/formats.md. Needs the extras [onnx] and [hf], and onnxscript for one of torch's exporters.

    python benchmarks/formats.py
"""

from __future__ import annotations

import datetime
import functools
import io
import json
import pickle
import random
import tempfile
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from teachers import intake, networks
from teachers.errors import RefusedInput

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "formats.md"
SHAPE, K, ARCH = (3, 16, 16), 5, "strided-4-8"
CLOSE = 1e-5

HEAD = """# Formats

`python benchmarks/formats.py` writes this page. It made every file as the row says, opened it with the code that
`audit run` uses, asked about seven images, and compared the answers with those of the network that the file was
made from.

The content of a file decides what the file is; its name and extension do not matter. A child process with little
memory and time reads the file, and only tensors come back. Nothing in a state dict, a safetensors or ONNX file or a
Hugging Face folder is executed.

- A `config.json` or a card may contain numbers within bounds and words that the tool knows; anything else is
  refused. The tool builds the network from a name that this tool, transformers or timm has installed, and gives it
  the tensors of the file, if the file has all of them. It searches no hub and no path.
- Objects beside the tensors of a state dict become stand-ins, which do nothing; none of their classes is imported.
  If a file names a function, or a class that runs something, it is refused by that name. Weights that only a class
  of somebody else can make are refused, too.
- Pickled modules, TorchScript and torch.export files are programs, which run code when they are opened. They are
  refused, and the message says what they wanted to run, unless you give `--trust-model-code`. Trust such a file as
  much as you would trust a script of the same origin: it runs under your account.

TorchScript and torch.export files get images in their own precision: half, bfloat16 or double, too. If a program
has several outputs, the one called `logits` is used, or else the first that has a number for each class; a line
says which. If several have and name other classes, `--output` selects one. The auxiliary heads of GoogLeNet and
Inception, which only training uses, may be in a state dict or not.

The architecture of a state dict is recognised ([inspect](inspect.md)) or named with `--arch`; a file that brings
its own network needs none. ONNX needs `pip install '.[onnx]'`. Hugging Face folders need
`pip install '.[hf]'`.

## A network of your own class

If no name fits, give your own code: a module and a class or a function in it.

```sh
audit run --teacher weights.pt --data DIR --arch mypackage.models:make_net --trust-model-code
```

- The module is imported from the working directory first, then from the installed packages, as `python -m` does.
- A factory with an argument `num_classes` gets the number of classes of the data; any other factory is called without
  arguments. It must return a `torch.nn.Module` that takes images (N, C, H, W) and gives (N, K).
- The checkpoint must have all tensors of that network, and no others; `--weights` selects one of several state dicts.
- Without `--trust-model-code` nothing is imported. The code runs in a process of its own. The flag trusts the code, not
  the file: of the file, only the tensors are read. Only the command line and the Python API can name code. A card, a
  `config.json` or a record cannot: `audit repeat` needs `--arch` again.
- The teacher's fingerprint covers the tensors, all Python files of the module's package, every other module that the
  code imports and that no package manager has installed, and what `print(network)` shows. If one of them changes, no
  stored answer is used again. The fingerprint does not cover other files that the code reads, as far as `print` does
  not show what they change: after you change such a file, audit with a new `--cache`.

## Every format, tried

| file | made with | loads | refused, because | agrees to 1e-5 |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Sample:
    """A file and the network whose answers it should give."""

    file: str
    made: str
    path: Path
    original: Callable[[Tensor], Tensor]
    architecture: str = ""


@dataclass(frozen=True)
class Row:
    """What became of a file."""

    file: str
    made: str
    loads: str
    refused: str
    agrees: str

    def __str__(self) -> str:
        return f"| {self.file} | {self.made} | {self.loads} | {self.refused} | {self.agrees} |"


def original() -> nn.Module:
    """Return a network whose batch statistics are not those it was made with."""
    torch.manual_seed(0)
    network = networks.build(ARCH, K, SHAPE)
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(32, *SHAPE))
    return network.eval()


def samples(folder: Path) -> Iterator[Sample]:
    """Make every file."""
    network = original()
    for n, (file, made, path, architecture) in enumerate(
        (*weights(network, folder), *programs(network, folder), *onnx(network, folder), *refused(network, folder))
    ):
        assert path.exists(), (n, file)
        yield Sample(file, made, path, network, architecture)
    yield from huggingface(folder)


Made = tuple[str, str, Path, str]


def weights(network: nn.Module, folder: Path) -> Iterator[Made]:
    """Make state dicts and checkpoints."""
    from safetensors.torch import save_file

    state = network.state_dict()
    epoch = {"epoch": 7, "optimizer": torch.optim.SGD(network.parameters(), 0.1).state_dict()}
    contents: dict[str, tuple[str, Any]] = {
        "state dict": ("`torch.save(model.state_dict())`", state),
        "state_dict in a checkpoint": ('`{"state_dict": …, "epoch", "optimizer"}`', {"state_dict": state, **epoch}),
        "model in a checkpoint": (
            '`{"model": …, "args": argparse.Namespace}`',
            {"model": state, "args": Namespace(lr=0.1)},
        ),
        "model_state_dict": ("with numpy scalars", {"model_state_dict": state, "best": np.float64(0.9), **epoch}),
        "net": ("with a `pathlib.Path`", {"net": state, "out": Path("runs")}),
        "model_ema": ("moving average alone", {"model_ema": state}),
        "of DataParallel": ("keys begin with `module.`", {f"module.{k}": v for k, v in state.items()}),
        "of torch.compile": ("keys begin with `_orig_mod.`", {f"_orig_mod.{k}": v for k, v in state.items()}),
        "of Lightning": (
            "keys begin with `network.`, hyper-parameters beside",
            {"state_dict": {f"network.{k}": v for k, v in state.items()}, "hyper_parameters": {"lr": 0.1}},
        ),
        "of Lightning, with a loss and partials": (
            "`criterion.weight` beside `model.`, `functools.partial(SGD)` among the hyper-parameters",
            {
                "state_dict": {"criterion.weight": torch.ones(K), **{f"model.{k}": v for k, v in state.items()}},
                "hyper_parameters": {"optimizer": functools.partial(torch.optim.SGD, lr=0.1)},
            },
        ),
        "of an averaged model": (
            "`torch.optim.swa_utils.AveragedModel`",
            torch.optim.swa_utils.AveragedModel(network).state_dict(),
        ),
        "of FSDP and compile": (
            "keys begin with `_fsdp_wrapped_module._orig_mod.`",
            {f"_fsdp_wrapped_module._orig_mod.{k}": v for k, v in state.items()},
        ),
        "of a layer that is parallel or checkpointed": (
            "`module.`, `_checkpoint_wrapped_module.` amid the keys",
            {
                k.replace("7.", "7.module.").replace("0.w", "0._checkpoint_wrapped_module.w"): v
                for k, v in state.items()
            },
        ),
        "model and model_ema": (
            '`{"model": …, "model_ema": …}`: `model`, and the command says so',
            {"model": state, "model_ema": {k: v * 2 for k, v in state.items()}},
        ),
        "under a name of its own": ('`{"student": …}`', {"student": state, "epoch": 7}),
        "a nest in a nest": ('`{"state": {"model": …}}`', {"state": {"model": state}, "rng": [torch.get_rng_state()]}),
        "a list": ("`[model.state_dict()]`", [state]),
        "with arrays, dates and random states": (
            "`numpy`, `datetime`, `random.getstate()`, `torch.__version__` beside the weights",
            {
                "state_dict": state,
                "history": np.zeros((2, 3)),
                "when": datetime.datetime(2024, 1, 1),
                "rng": (random.getstate(), np.random.get_state(), torch.get_rng_state()),
                "torch": torch.__version__,
            },
        ),
        "of a wrapper with its normalisation": (
            "`nn.Sequential(Normalize(mean, std), model)`",
            {"0.mean": torch.zeros(3), "0.std": torch.ones(3), **{f"1.{k}": v for k, v in state.items()}},
        ),
        "of a last layer behind dropout": (
            "`nn.Sequential(nn.Dropout(), nn.Linear(…))` in its place",
            {k.replace("7.", "7.1."): v for k, v in state.items()},
        ),
        "without counters": (
            "no `num_batches_tracked`, as before torch 0.4.1",
            {k: v for k, v in state.items() if "num_batches" not in k},
        ),
        "of Parameters": (
            "`dict(model.named_parameters())` and buffers",
            {**state, **dict(network.named_parameters())},
        ),
        "views of one storage": ("flattened parameters", views(network)),
        "in double precision": ("`model.double().state_dict()`", {k: v.double() for k, v in state.items()}),
    }
    for i, (file, (made, content)) in enumerate(contents.items()):
        torch.save(content, folder / f"w{i}.pt")
        yield file, made, folder / f"w{i}.pt", ARCH
    for file, made, options in (
        ("old container", "`_use_new_zipfile_serialization=False`", {"_use_new_zipfile_serialization": False}),
        ("pickle protocol 4", "`pickle_protocol=4`", {"pickle_protocol": 4}),
    ):
        torch.save(state, folder / f"{file}.pt", **options)
        yield file, made, folder / f"{file}.pt", ARCH
    torch.save(state, folder / "no_extension")
    yield "named without an extension", "`torch.save`", folder / "no_extension", ARCH
    save_file(state, folder / "m.safetensors")
    yield "safetensors", "`safetensors.torch.save_file`", folder / "m.safetensors", ARCH
    save_file({f"module.{k}": v for k, v in state.items()}, folder / "m.pt", metadata={"format": "pt"})
    yield "safetensors named .pt", "with metadata", folder / "m.pt", ARCH


def views(network: nn.Module) -> dict[str, Tensor]:
    """Return a state dict whose parameters lie in one storage."""
    flat, held, at = torch.cat([p.detach().flatten() for p in network.parameters()]), dict(network.state_dict()), 0
    for name, p in network.named_parameters():
        held[name] = flat[at : at + p.numel()].view_as(p)
        at += p.numel()
    return held


def programs(network: nn.Module, folder: Path) -> Iterator[Made]:
    """Make files that bring code."""
    x = torch.rand(2, *SHAPE)
    torch.save(network, folder / "whole.pt")
    yield "whole module", "`torch.save(model)`", folder / "whole.pt", ""
    torch.save(network, folder / "whole-old.pt", _use_new_zipfile_serialization=False)
    yield "whole module, old container", "`_use_new_zipfile_serialization=False`", folder / "whole-old.pt", ""
    torch.save({"model": network, "epoch": 3}, folder / "inside.pt")
    yield "module in a checkpoint", '`{"model": model}`', folder / "inside.pt", ""
    torch.save(nn.DataParallel(network), folder / "parallel.pt")
    yield "whole DataParallel", "`torch.save(nn.DataParallel(model))`", folder / "parallel.pt", ""
    (folder / "raw.pkl").write_bytes(pickle.dumps(network))
    yield "pickle", "`pickle.dump(model)`", folder / "raw.pkl", ""
    torch.jit.trace(network, x).save(str(folder / "traced.pt"))  # type: ignore[no-untyped-call]
    yield "TorchScript", "`torch.jit.trace`", folder / "traced.pt", ""
    torch.jit.script(network).save(str(folder / "scripted.pt"))  # type: ignore[no-untyped-call]
    yield "TorchScript, scripted", "`torch.jit.script`", folder / "scripted.pt", ""
    torch.jit.freeze(torch.jit.script(network)).save(str(folder / "frozen.pt"))
    yield "TorchScript, frozen", "`torch.jit.freeze`", folder / "frozen.pt", ""
    torch.export.save(torch.export.export(network, (x,)), folder / "fixed.pt2")
    yield "torch.export, two images", "`torch.export.save`", folder / "fixed.pt2", ""
    dynamic = torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(dynamic, folder / "dynamic.pt2")
    yield "torch.export, any batch", '`dynamic_shapes=({0: Dim("n")},)`', folder / "dynamic.pt2", ""


def onnx(network: nn.Module, folder: Path) -> Iterator[Made]:
    """Make ONNX files."""
    import onnx

    for file, made, batch, axes in (
        ("ONNX, one image", "`torch.onnx.export(dynamo=False)`", 1, None),
        ("ONNX, four images", "the same with a batch of four", 4, None),
        ("ONNX, any batch", '`dynamic_axes={"x": {0: "n"}}`', 2, {"x": {0: "n"}}),
    ):
        path = folder / f"{file}.onnx"
        torch.onnx.export(
            network, (torch.rand(batch, *SHAPE),), path, dynamo=False, input_names=["x"], dynamic_axes=axes
        )
        yield file, made, path, ""
    x = torch.rand(2, *SHAPE)
    torch.onnx.export(network, (x,), folder / "new.onnx", dynamo=True, verbose=False, external_data=False)
    yield "ONNX, new exporter, two images", "`torch.onnx.export(dynamo=True)`", folder / "new.onnx", ""
    shapes = ({0: torch.export.Dim("n")},)
    torch.onnx.export(network, (x,), folder / "any.onnx", dynamo=True, verbose=False, dynamic_shapes=shapes)
    yield "ONNX, new exporter, any batch", '`dynamic_shapes=({0: Dim("n")},)`', folder / "any.onnx", ""
    model = onnx.load(folder / "ONNX, any batch.onnx")
    beside = folder / "beside.onnx"
    onnx.save(model, beside, save_as_external_data=True, location="beside.bin", size_threshold=0)
    yield "ONNX with external data", "`save_as_external_data=True`", beside, ""
    model = onnx.load(folder / "ONNX, any batch.onnx")
    model.graph.node.insert(0, onnx.helper.make_node("Transpose", ["nhwc"], ["x"], perm=[0, 3, 1, 2]))
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("nhwc", 1, ["n", *SHAPE[1:], SHAPE[0]]))
    onnx.save(model, folder / "last.onnx")
    yield "ONNX, channels last", "input N×H×W×C", folder / "last.onnx", ""
    model = onnx.load(folder / "ONNX, any batch.onnx")
    whole = onnx.helper.make_tensor("whole", onnx.TensorProto.FLOAT, [], [255.0])
    model.graph.initializer.append(whole)
    model.graph.node.insert(0, onnx.helper.make_node("Div", ["floats", "whole"], ["x"]))
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["bytes"], ["floats"], to=onnx.TensorProto.FLOAT))
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("bytes", onnx.TensorProto.UINT8, ["n", *SHAPE]))
    onnx.save(model, folder / "bytes.onnx")
    yield "ONNX, of bytes", "input uint8, scaled by the graph", folder / "bytes.onnx", ""
    sparse = onnx.load(beside, load_external_data=False)
    for tensor in sparse.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../beside.bin" if entry.key == "location" else entry.value
    onnx.save(sparse, folder / "outside.onnx")
    yield "ONNX with data outside its folder", "`location: ../beside.bin`", folder / "outside.onnx", ""


def huggingface(folder: Path) -> Iterator[Sample]:
    """Make folders as save_pretrained does."""
    import transformers

    transformers.logging.disable_progress_bar()
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    resnet = transformers.ResNetConfig(num_channels=3, num_labels=K, **sizes)
    vit = transformers.ViTConfig(
        image_size=16,
        patch_size=4,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=K,
    )
    torch.manual_seed(0)
    convolutions = transformers.ResNetForImageClassification(resnet).eval()
    attention = transformers.ViTForImageClassification(vit).eval()

    def sample(file: str, made: str, network: nn.Module, home: Path) -> Sample:
        return Sample(file, made, home, lambda x: network(x).logits)

    convolutions.save_pretrained(folder / "hf-resnet")
    yield sample("Hugging Face ResNet", "`save_pretrained`", convolutions, folder / "hf-resnet")
    attention.save_pretrained(folder / "hf-vit", max_shard_size="5KB")
    yield sample("Hugging Face ViT in shards", '`max_shard_size="5KB"`', attention, folder / "hf-vit")
    old = folder / "hf-bin"
    convolutions.config.save_pretrained(old)
    torch.save(convolutions.state_dict(), old / "pytorch_model.bin")
    yield sample("Hugging Face, pytorch_model.bin", "`torch.save`, as before safetensors", convolutions, old)
    import timm

    torch.manual_seed(0)
    inner = timm.create_model("resnet10t", num_classes=K).eval()
    wrapped = transformers.TimmWrapperForImageClassification(
        transformers.TimmWrapperConfig(architecture="resnet10t", num_labels=K)
    )
    wrapped.timm_model.load_state_dict(inner.state_dict())
    wrapped.save_pretrained(folder / "hf-timm")
    yield Sample("Hugging Face around a timm network", "`timm_wrapper`", folder / "hf-timm", inner)
    code = folder / "hf-code"
    convolutions.save_pretrained(code)
    config = json.loads((code / "config.json").read_text())
    (code / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "modeling.Model"}}))
    yield sample("Hugging Face with code", "`auto_map` in config.json", convolutions, code)


def refused(network: nn.Module, folder: Path) -> Iterator[Made]:
    """Make files that are not opened whatever is trusted."""
    broken = {k: v.clone() for k, v in network.state_dict().items()}
    broken["0.weight"][0, 0, 0, 0] = torch.nan
    torch.save(broken, folder / "nan.pt")
    yield "state dict with NaN", "`torch.save`", folder / "nan.pt", ARCH
    torch.save({"w": torch.eye(4).to_sparse()}, folder / "sparse.pt")
    yield "sparse tensors", "`tensor.to_sparse()`", folder / "sparse.pt", ARCH
    whole = (folder / "w0.pt").read_bytes()
    (folder / "half.pt").write_bytes(whole[: len(whole) // 2])
    yield "half a state dict", "an interrupted download", folder / "half.pt", ARCH
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("MAR-INF/MANIFEST.json", "{}")
    (folder / "m.mar").write_bytes(out.getvalue())
    yield "TorchServe archive", "`torch-model-archiver`", folder / "m.mar", ARCH
    (folder / "m.gguf").write_bytes(b"GGUF" + bytes(60))
    yield "GGUF", "llama.cpp", folder / "m.gguf", ARCH
    (folder / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(60))
    yield "HDF5", "Keras", folder / "m.h5", ARCH
    (folder / "pointer.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    yield "Git LFS pointer", "`git clone` without LFS", folder / "pointer.pt", ARCH


def outcome(sample: Sample) -> Row:
    """Open a file, first without trust, and compare its answers with the original's."""
    try:
        opened, loads, why = intake.open_weights(sample.path), "yes", ""
    except RefusedInput as e:
        why = str(e).replace(f"{sample.path.parent}/", "").replace("|", "\\|")
        try:
            opened, loads = intake.open_weights(sample.path, trust=True), "if trusted"
        except RefusedInput:
            return Row(sample.file, sample.made, "no", why, "")
    teacher = intake.assemble(opened, sample.architecture, K, SHAPE, "none")
    images = torch.randint(256, (7, *SHAPE), generator=torch.Generator().manual_seed(1)) / 255
    with torch.no_grad():
        difference = (teacher.here.eval()(images) - sample.original(images)).abs().max().item()
    return Row(sample.file, sample.made, loads, why, "yes" if difference <= CLOSE else f"no: {difference:.1e}")


def rows() -> list[Row]:
    """Return the matrix."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [outcome(sample) for sample in samples(Path(folder))]


if __name__ == "__main__":
    found = rows()
    DOCS.write_text(HEAD + "".join(f"{row}\n" for row in found), encoding="utf-8")
    print(f"{DOCS}: {len(found)} files")
