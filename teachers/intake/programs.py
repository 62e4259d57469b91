"""Load networks that are programs: ONNX, Hugging Face, TorchScript, torch.export and pickled modules."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from teachers.errors import RefusedInput
from teachers.intake import classifiers, huggingface, onnx_files
from teachers.intake.formats import Program
from teachers.intake.readers import attempt, in_folder, module_in, unpickled
from teachers.numbers import kind as type_of
from teachers.oracle import batch
from teachers.processes import limits

Shape = tuple[int, int, int]
Call = Callable[[Tensor], object]
Tensors = Mapping[str, Tensor]
Sizes = list[int | None]  # of a declared input; None where any size is accepted

TAKEN = {  # input types of an ONNX graph; one that takes uint8 normalises by itself
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(uint8)": torch.uint8,
}
TAKES = "does not answer images of shape {shape}"
PRECISIONS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)  # in the order in which they are tried
SHAPES: tuple[Shape, ...] = (  # of noise, for a program that declares none: the usual ones first
    *((3, side, side) for side in (224, 32, 64, 96, 299, 16)),
    *((1, side, side) for side in (28, 32, 16, 8, 224)),
)
NOISE, STEP = 16, 32  # number of noise images; pixels by which another size is larger
PATIENCE = 15.0  # seconds: a rehearsal with a whole batch is skipped if it would take longer
CHOSEN = "logits"  # the name of the output that is preferred


class Precision(nn.Module):
    """A module called with images in one precision: the first of PRECISIONS that it answers."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.takes: tuple[torch.dtype, ...] = PRECISIONS

    def forward(self, x: Tensor) -> object:
        first: RuntimeError | None = None
        for precision in self.takes:
            try:
                answer: object = self.inner(x.to(precision))
            except RuntimeError as e:
                first = first or e
                continue
            self.takes = (precision,)
            return answer
        raise first or RuntimeError("it answers no images")


class OtherShape(RefusedInput):
    """A program declares another shape of images; `sizes` is what it declares, (channels, height, width)."""

    def __init__(self, sentence: str, sizes: Sizes) -> None:
        super().__init__(sentence)
        self.sizes = sizes


class Output(NamedTuple):
    """One of the tensors that a program returns."""

    name: str
    values: Tensor


class Head(NamedTuple):
    """One output of a program with a row of numbers for each image."""

    name: str
    numbers: int
    kind: str  # logits, probabilities, percentages or log-probabilities


class Explored(NamedTuple):
    """What a program puts out: found by asking it about noise."""

    shape: Shape
    fixed: bool  # whether it takes no other size
    parameters: int
    heads: tuple[Head, ...]  # the one that would be used first


class ProgramNetwork(nn.Module):
    """A program as a network from normalised float images (N, C, H, W) to (N, K), whatever its own formats are."""

    def __init__(
        self, call: Call, path: Path | str, classes: int, batch: int | None = None, channels_last: bool = False
    ) -> None:
        super().__init__()
        self.call, self.path, self.classes = call, path, classes
        self.parameters_inside = 0  # number of parameters of a program that is no torch module
        self.batch, self.channels_last = batch, channels_last
        self.wanted = ""  # the output that the user names, if any
        self.told = ""  # which of several outputs is used, as a line to print
        self.rivals: tuple[str, ...] = ()  # outputs that also fit but predict other classes

    def forward(self, x: Tensor) -> Tensor:
        x = self._laid_out(x)
        if self.batch is None:
            return self._part(x)
        return torch.cat([self._padded(part, self.batch) for part in torch.split(x, self.batch)])

    def outputs(self, x: Tensor) -> list[Output]:
        """Return all tensors of floats that have a row for each image of a batch (N, C, H, W), flattened to (N, k)."""
        with limits.within(limits.question(x.shape)):
            found = _outputs(self.call(self._laid_out(x)))
        rows = [o for o in found if o.values.is_floating_point() and o.values.ndim > 1 and len(o.values) == len(x)]
        return [Output(o.name, o.values.float().flatten(1)) for o in rows]

    def _laid_out(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).contiguous() if self.channels_last else x

    def _padded(self, x: Tensor, batch: int) -> Tensor:
        short = batch - len(x)
        return self._part(torch.cat([x, x[:1].expand(short, -1, -1, -1)]) if short else x)[: len(x)]

    def _part(self, x: Tensor) -> Tensor:
        with limits.within(limits.question(x.shape)):
            outputs = _outputs(self.call(x))
        named = [o for o in outputs if self.wanted in ("", o.name)]
        if outputs and not named:
            raise RefusedInput(
                f"{self.path} has no output {self.wanted!r}; --output names one of {', '.join(o.name for o in outputs)}"
            )
        if fitting := [o for o in named if self._fits(o.values, len(x))]:
            taken = next((o for o in fitting if o.name == CHOSEN), fitting[0])
            left = [o.name for o in outputs if o is not taken]
            self.told = f"output {taken.name} is used; left out: {', '.join(left)}" if left else ""
            if taken.name != CHOSEN and len({tuple(o.values.flatten(1).argmax(-1).tolist()) for o in fitting}) > 1:
                self.rivals = tuple(o.name for o in fitting)
            return taken.values.float().flatten(1).to(x.device)
        shapes = ", ".join(str(tuple(o.values.shape)) for o in named) or "nothing"
        raise RefusedInput(
            f"{self.path} answers {shapes} to {len(x)} images but the data has {self.classes} classes; give the "
            "--data it was trained for"
        )

    def _fits(self, y: Tensor, images: int) -> bool:
        return y.is_floating_point() and y.shape[:1] == (images,) and y[0].numel() == self.classes


def program(
    path: Path, kind: Program, shape: Shape, classes: int, tensors: Tensors | None, output: str = ""
) -> ProgramNetwork:
    """Load a program as a network that takes normalised float images (N, C, H, W) and gives (N, K).

    `tensors` are those of a Hugging Face folder, read now if None; `output` names one of several outputs. This runs the
    program's code, except for ONNX and Hugging Face. Raises RefusedInput if it does not load or takes other images.
    """
    if tensors is None:
        tensors = in_folder(path) if kind == "huggingface" else {}
    network = LOADERS[kind](path, shape, classes, tensors).eval()
    network.wanted = output
    return network


def rehearse(
    load: Callable[[], ProgramNetwork], label: str, shape: Shape, classes: int, folder: Path
) -> dict[str, Any]:
    """Load a program and ask it about three images, then about a whole batch unless that would be slow.

    This happens in the jail before it happens outside. Raises RefusedInput if the program does not answer.
    """
    network = load()
    began = time.perf_counter()
    _ask(label, network, shape, classes, 3)
    if (time.perf_counter() - began) / 3 * batch(shape) < PATIENCE:
        _ask(label, network, shape, classes, batch(shape))
    return {}


def explore(path: Path, kind: Program, label: str, folder: Path) -> dict[str, Any]:
    """Load a program in the jail and ask it about noise: the first shape that it answers, and what it puts out.

    A declared shape comes first, then those of SHAPES. Raises RefusedInput if it answers none of them.
    """
    first: RefusedInput | None = None
    for shape in SHAPES:
        try:
            try:
                network, fixed = program(path, kind, shape, 0, None), False
            except OtherShape as e:
                C, H, W = (size or usual for size, usual in zip(e.sizes, shape, strict=True))
                shape, fixed = (C, H, W), None not in e.sizes[1:]
                network = program(path, kind, shape, 0, None)
            heads = _heads(label, network, shape)
        except RefusedInput as e:
            first = first or e
            continue
        inside = network.parameters_inside or sum(p.numel() for p in network.parameters())
        found = Explored(shape, fixed or not _takes(label, network, shape), inside, heads)
        return {**found._asdict(), "heads": [head._asdict() for head in heads]}
    raise first or RefusedInput(f"{label} answers no images")


def _heads(label: str, network: ProgramNetwork, shape: Shape) -> tuple[Head, ...]:
    noise = torch.rand(network.batch or NOISE, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = attempt(label, TAKES.format(shape=shape), lambda: network.outputs(noise))
    if not found:
        raise RefusedInput(f"{label} puts out no row of numbers for an image of shape {shape}")
    found.sort(key=lambda output: output.name != CHOSEN)
    return tuple(Head(output.name, output.values.shape[1], type_of(output.values)) for output in found)


def _takes(label: str, network: ProgramNetwork, shape: Shape) -> bool:
    """Whether a program takes images of another size, too."""
    C, H, W = shape
    try:
        _heads(label, network, (C, H + STEP, W + STEP))
    except RefusedInput:
        return False
    return True


def _ask(path: str, network: ProgramNetwork, shape: Shape, classes: int, many: int) -> None:
    images = torch.rand(many, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answers: Tensor = attempt(path, TAKES.format(shape=shape), lambda: network(images))
    if answers.shape != (many, classes) or bool(torch.isnan(answers).any()):
        given = tuple(answers.shape)
        raise RefusedInput(f"{path} answers NaN, or not one row per image: {given} for {many}; this model is broken")
    if network.rivals:
        raise RefusedInput(
            f"{path} has {len(network.rivals)} outputs of {classes} numbers that name other classes "
            f"({', '.join(network.rivals)}); say which one classifies: --output {network.rivals[0]}"
        )


def _outputs(answer: object) -> list[Output]:
    """Return the tensors of an answer with their names, or their positions if they have none."""
    if isinstance(answer, Tensor):
        return [Output("0", answer)]
    if isinstance(answer, Mapping):
        members = [(str(name), y) for name, y in answer.items()]
    elif isinstance(answer, (list, tuple)):
        members = list(zip(map(str, getattr(answer, "_fields", range(len(answer)))), answer, strict=True))
    else:
        members = [(CHOSEN, getattr(answer, CHOSEN, None))]
    return [Output(name, y) for name, y in members if isinstance(y, Tensor)]


def _arranged(path: Path, declared: Sizes, shape: Shape) -> tuple[int | None, bool]:
    """Return the fixed batch size of a declared input, or None, and whether its channels are last.

    Raises RefusedInput if it takes images of another shape.
    """
    C, H, W = shape
    for channels_last, wanted in ((False, (C, H, W)), (True, (H, W, C))):
        if len(declared) == 4 and all(d in (None, w) for d, w in zip(declared[1:], wanted, strict=True)):
            return declared[0], channels_last
    sizes = "×".join("?" if d is None else str(d) for d in declared)
    said = f"{path} takes {sizes}, the data has images of shape {shape}; give --size or other --data"
    if len(declared) != 4:
        raise RefusedInput(said)
    _, *inner = declared
    last = inner[2] is not None and inner[2] <= 4 and (inner[0] is None or inner[0] > 4)
    raise OtherShape(said, [inner[2], *inner[:2]] if last else inner)


def _onnx(path: Path, shape: Shape, classes: int, tensors: Tensors) -> ProgramNetwork:
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
    outputs = [output.name for output in session.get_outputs()]

    def call(x: Tensor) -> object:
        given = session.run(None, {name: _cast(x.detach().cpu(), kind).numpy()})
        found = zip(outputs, given, strict=True)
        return {name: torch.from_numpy(y) for name, y in found if hasattr(y, "dtype") and y.dtype.kind == "f"}

    network = ProgramNetwork(call, path, classes, batch, channels_last)
    network.parameters_inside = onnx_files.parameters(path)
    return network


def _cast(x: Tensor, kind: torch.dtype) -> Tensor:
    """Convert images to the type that a program declares; for uint8, to pixels from 0 to 255."""
    return x.mul(255).round().clamp(0, 255).to(kind) if kind == torch.uint8 else x.to(kind)


def _torchscript(path: Path, shape: Shape, classes: int, tensors: Tensors) -> ProgramNetwork:
    def load() -> nn.Module:
        with path.open("rb") as f:
            loaded: nn.Module = torch.jit.load(f, map_location="cpu")  # type: ignore[no-untyped-call]
        return loaded

    return ProgramNetwork(Precision(attempt(path, "is a TorchScript file that does not load", load)), path, classes)


def _export(path: Path, shape: Shape, classes: int, tensors: Tensors) -> ProgramNetwork:
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
    inner, kind = exported.module(), taken[0].dtype
    # A function, because such a module refuses .eval() and must stay on the device of its export.
    network = ProgramNetwork(lambda x: inner(_cast(x.cpu(), kind)), path, classes, batch, channels_last)
    network.parameters_inside = sum(p.numel() for p in exported.parameters())
    return network


def _module(path: Path, shape: Shape, classes: int, tensors: Tensors) -> ProgramNetwork:
    network = module_in(attempt(path, "cannot be unpickled", lambda: unpickled(path)))
    if network is None:
        raise RefusedInput(f"{path} holds no network; save its state dict")
    inner = network.module if isinstance(network, nn.DataParallel) else network
    return ProgramNetwork(inner.float(), path, classes)


def _huggingface(path: Path, shape: Shape, classes: int, tensors: Tensors) -> ProgramNetwork:
    huggingface.require()
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config = huggingface.configuration(path)

    def load() -> nn.Module:
        try:
            return classifiers.network(classifiers.plan(config), tensors)
        except RefusedInput as e:
            raise RefusedInput(f"{path} {e}") from e

    return ProgramNetwork(attempt(path, "is a Hugging Face folder that does not load", load), path, classes)


LOADERS: dict[Program, Callable[[Path, Shape, int, Tensors], ProgramNetwork]] = {
    "onnx": _onnx,
    "huggingface": _huggingface,
    "torchscript": _torchscript,
    "export": _export,
    "module": _module,
}
