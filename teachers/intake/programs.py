"""Networks that come with their own code: ONNX, Hugging Face, TorchScript, torch.export and pickled modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from teachers import limits
from teachers.errors import RefusedInput
from teachers.intake import huggingface, onnx_files
from teachers.intake.formats import Program
from teachers.intake.readers import attempt, module_in, unpickled

Shape = tuple[int, int, int]
Call = Callable[[Tensor], object]
Sizes = list[int | None]  # of a declared input; None where it takes any

TAKEN = {  # by an ONNX graph; one that takes bytes does its own normalisation
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(uint8)": torch.uint8,
}
TAKES = "does not answer images of shape {shape}"


class Answering(nn.Module):
    """A program as a network: normalised float images (N, C, H, W) to (N, K), whatever it takes and gives."""

    def __init__(
        self, call: Call, path: Path, classes: int, batch: int | None = None, channels_last: bool = False
    ) -> None:
        super().__init__()
        self.call, self.path, self.classes = call, path, classes
        self.parameters_inside = 0  # of a program that is no torch module
        self.batch, self.channels_last = batch, channels_last

    def forward(self, x: Tensor) -> Tensor:
        if self.channels_last:
            x = x.permute(0, 2, 3, 1).contiguous()
        if self.batch is None:
            return self._part(x)
        return torch.cat([self._padded(part, self.batch) for part in torch.split(x, self.batch)])

    def _padded(self, x: Tensor, batch: int) -> Tensor:
        short = batch - len(x)
        return self._part(torch.cat([x, x[:1].expand(short, -1, -1, -1)]) if short else x)[: len(x)]

    def _part(self, x: Tensor) -> Tensor:
        with limits.within(limits.question(x.shape)):
            outputs = list(_outputs(self.call(x)))
        for y in outputs:
            if y.is_floating_point() and y.shape[:1] == x.shape[:1] and y[0].numel() == self.classes:
                return y.float().flatten(1).to(x.device)
        shapes = ", ".join(str(tuple(y.shape)) for y in outputs) or "nothing"
        raise RefusedInput(
            f"{self.path} answers {shapes} to {len(x)} images but the data has {self.classes} classes; give the "
            "--data it was trained for"
        )


def program(path: Path, kind: Program, shape: Shape, classes: int) -> nn.Module:
    """Load a program as a network that takes normalised float images (N, C, H, W) and gives (N, K).

    This runs its code, but for ONNX and Hugging Face. Raises RefusedInput where it does not load or takes other images.
    """
    return LOADERS[kind](path, shape, classes).eval()


def rehearse(path: Path, kind: Program, shape: Shape, classes: int, folder: Path) -> dict[str, Any]:
    """Load a program and ask it about three images; done in the jail before it is done outside."""
    network = program(path, kind, shape, classes)
    images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answers: Tensor = attempt(path, TAKES.format(shape=shape), lambda: network(images))
    if answers.shape != (3, classes) or bool(torch.isnan(answers).any()):
        raise RefusedInput(f"{path} gives NaN, or no row an image: {tuple(answers.shape)} for 3; this model is broken")
    return {}


def _outputs(answer: object) -> list[Tensor]:
    """Return the tensors of an answer: itself, or the logits or members of what it is."""
    if isinstance(answer, Tensor):
        return [answer]
    logits = answer.get("logits") if isinstance(answer, Mapping) else getattr(answer, "logits", None)
    if isinstance(logits, Tensor):
        return [logits]
    members = answer.values() if isinstance(answer, Mapping) else answer
    return [y for y in members if isinstance(y, Tensor)] if isinstance(members, (list, tuple)) else []


def _arranged(path: Path, declared: Sizes, shape: Shape) -> tuple[int | None, bool]:
    """Return the fixed batch size of a declared input, and whether its channels are last.

    Raises RefusedInput where it takes other images.
    """
    C, H, W = shape
    for channels_last, wanted in ((False, (C, H, W)), (True, (H, W, C))):
        if len(declared) == 4 and all(d in (None, w) for d, w in zip(declared[1:], wanted, strict=True)):
            return declared[0], channels_last
    sizes = "×".join("?" if d is None else str(d) for d in declared)
    raise RefusedInput(f"{path} takes {sizes}, the data has images of shape {shape}; give --size or other --data")


def _onnx(path: Path, shape: Shape, classes: int) -> nn.Module:
    onnx_files.require()
    session = onnx_files.open_session(path)
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise RefusedInput(f"{path} takes {len(inputs)} inputs; give a model that takes images alone")
    if inputs[0].type not in TAKEN:
        raise RefusedInput(f"{path} takes {inputs[0].type}; give a model that takes floats or bytes")
    sizes: Sizes = [d if isinstance(d, int) and d > 0 else None for d in inputs[0].shape]
    batch, channels_last = _arranged(path, sizes, shape)
    name, kind = inputs[0].name, TAKEN[inputs[0].type]

    def call(x: Tensor) -> object:
        x = x.detach().cpu()
        pixels = x.mul(255).round().clamp(0, 255) if kind == torch.uint8 else x
        given = session.run(None, {name: pixels.to(kind).numpy()})
        return [torch.from_numpy(y) for y in given if hasattr(y, "dtype") and y.dtype.kind == "f"]

    network = Answering(call, path, classes, batch, channels_last)
    network.parameters_inside = onnx_files.parameters(path)
    return network


def _torchscript(path: Path, shape: Shape, classes: int) -> nn.Module:
    def load() -> nn.Module:
        with path.open("rb") as f:
            loaded: nn.Module = torch.jit.load(f, map_location="cpu")  # type: ignore[no-untyped-call]
        return loaded

    return Answering(attempt(path, "is a TorchScript file that does not load", load), path, classes)


def _export(path: Path, shape: Shape, classes: int) -> nn.Module:
    def load() -> torch.export.ExportedProgram:
        with path.open("rb") as f:
            return torch.export.load(f)

    exported = attempt(path, "is a torch.export file that does not load", load)
    names = set(exported.graph_signature.user_inputs)
    taken = [n.meta["val"] for n in exported.graph.nodes if n.op == "placeholder" and n.name in names]
    if len(taken) != 1 or not isinstance(taken[0], Tensor):
        raise RefusedInput(f"{path} takes {len(taken)} inputs; give a model that takes images alone")
    sizes: Sizes = [d if isinstance(d, int) else None for d in taken[0].shape]
    batch, channels_last = _arranged(path, sizes, shape)
    inner = exported.module()
    # A function, because such a module refuses .eval() and stays where it was exported.
    network = Answering(lambda x: inner(x.cpu()), path, classes, batch, channels_last)
    network.parameters_inside = sum(p.numel() for p in exported.parameters())
    return network


def _module(path: Path, shape: Shape, classes: int) -> nn.Module:
    network = module_in(attempt(path, "cannot be unpickled", lambda: unpickled(path)))
    if network is None:
        raise RefusedInput(f"{path} holds no network; save its state dict")
    inner = network.module if isinstance(network, nn.DataParallel) else network
    return Answering(inner.float(), path, classes)


def _huggingface(path: Path, shape: Shape, classes: int) -> nn.Module:
    huggingface.require()
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    def load() -> tuple[nn.Module, dict[str, Any]]:
        network, told = transformers.AutoModelForImageClassification.from_pretrained(
            str(path),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=any(path.glob("model*.safetensors")),
            dtype=torch.float32,
            output_loading_info=True,
        )
        return network, told

    network, told = attempt(path, "is a Hugging Face folder that does not load", load)
    if missing := sorted(told["missing_keys"]):
        raise RefusedInput(f"{path} lacks {len(missing)} of its weights (first: {missing[0]}); give all of them")
    return Answering(network, path, classes)


LOADERS: dict[Program, Callable[[Path, Shape, int], nn.Module]] = {
    "onnx": _onnx,
    "huggingface": _huggingface,
    "torchscript": _torchscript,
    "export": _export,
    "module": _module,
}
