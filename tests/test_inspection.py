"""`audit inspect` says what a checkpoint is, and how it is to be used."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colours import ARCHITECTURE, paint, trained
from command_line import call
from PIL import Image
from safetensors.torch import save_file
from small_teachers import fragile
from torch import nn

from audit.cache.store import Cache
from audit.finished.repeat import repeat
from audit.inspection.inspection import inspect
from audit.inspection.terminal import _inspected
from audit.pipeline import run
from audit.plan.options import Options
from audit.plan.suite import Suite
from teachers import networks
from teachers.data.datasets import load as load_task
from teachers.errors import RefusedInput
from teachers.intake import normalisation, open_weights
from teachers.numbers import kind
from teachers.proportions import wilson
from teachers.surface import FULL
from teachers.targets.identify import identify, told
from teachers.targets.runtime import Runtime
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import open_target, open_task
from teachers.task import Pool, known


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the colours as a folder of images; class names are in the order of the folder's."""
    root, task = tmp_path_factory.mktemp("colours"), paint()
    for split in ("train", "validation", "test"):
        pool: Pool = getattr(task, split)
        for i, (image, label) in enumerate(zip(pool.images[:540], known(pool)[:540], strict=True)):
            of_class = root / split / f"c{label:02d}"
            of_class.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(of_class / f"{i:04d}.png")
    return root


def bare(path: Path, normalize: str = "imagenet/bgr", order: np.ndarray | None = None) -> Path:
    """Save the weights of a network alone; `order` tells which class each output means."""
    tensors = dict(trained(normalize))
    if order is not None:
        tensors |= {name: tensors[name][torch.from_numpy(order)] for name in ("7.weight", "7.bias")}
    torch.save(tensors, path)
    return path


def test_a_file_alone_tells_what_it_is(tmp_path: Path) -> None:
    path = bare(tmp_path / "net.pt")
    found = inspect(Options(teacher=str(path), cache=tmp_path / "cache"))
    assert (found.format, found.bytes, found.file) == ("torch", path.stat().st_size, "net.pt")
    assert (found.architecture, found.candidates) == (ARCHITECTURE, (ARCHITECTURE,))
    assert (found.classes, found.channels, found.size, found.fixed) == (18, 3, 8, True)
    assert found.parameters == sum(p.numel() for p in networks.build(ARCHITECTURE, 18, (3, 8, 8)).parameters())
    assert (found.outputs, found.normalize, found.accuracy, found.undecided) == ("logits", None, None, "")


def test_data_tell_how_it_is_used_and_how_accurate_it_is(tmp_path: Path, folder: Path) -> None:
    path = bare(tmp_path / "net.pt")
    found = inspect(Options(teacher=str(path), data=str(folder), cache=tmp_path / "cache"))
    assert (found.architecture, found.normalize, found.undecided) == (ARCHITECTURE, "imagenet/bgr", "")
    assert found.accuracy is not None
    assert (found.accuracy.low, found.accuracy.high) == wilson(found.accuracy.right, found.accuracy.images)
    assert found.accuracy.right > 0.9 * found.accuracy.images


def test_the_command_prints_it_for_a_person_and_for_a_script(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.safetensors"
    save_file(dict(trained("imagenet/bgr")), path)
    shared = ("inspect", str(path), "--data", str(folder), "--cache", str(tmp_path / "cache"))
    code, out, err = call(capsys, *shared)
    assert (code, err) == (0, "")
    told = {line[:14].strip(): line[15:] for line in out.splitlines()}
    assert told["file"].startswith("net.safetensors, safetensors, ")
    assert told["architecture"] == ARCHITECTURE
    assert told["input"] == "3 channels, 8 × 8 pixels; N, C, H, W, blue first"
    assert told["normalisation"].startswith("imagenet/bgr: right on ")
    assert "of 540 test images [" in told["accuracy"]
    code, out, _ = call(capsys, *shared, "--json")
    assert code == 0
    assert json.loads(out)["normalize"] == "imagenet/bgr"
    assert json.loads(out)["choice"]["accuracies"]["imagenet/bgr"] > 0.9


def test_a_permuted_network_is_told_apart_and_asks_for_its_classes(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = np.random.default_rng(0).permutation(18)
    path = bare(tmp_path / "net.pt", order=order)
    names = [f"c{c:02d}" for c in order]
    shared = ("inspect", str(path), "--data", str(folder), "--cache", str(tmp_path / "cache"))
    code, out, _ = call(capsys, *shared)
    assert code == 0
    assert f"class order    {', '.join(names)}" in out
    assert "give --classes FILE" in out
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    code, out, _ = call(capsys, *shared, "--classes", str(tmp_path / "names.txt"))
    assert code == 0
    assert "normalisation  imagenet/bgr" in out
    assert "accuracy       9" in out or "accuracy       100" in out


def test_what_fits_nothing_is_told_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = dict(networks.build("resnet18-small", 10, (3, 32, 32)).state_dict())
    tensors["fc.1.weight"] = tensors.pop("fc.weight")
    torch.save(tensors, tmp_path / "net.pt")
    code, out, _ = call(capsys, "inspect", str(tmp_path / "net.pt"))
    assert code == 0
    assert "the nearest is resnet18-small: 1 tensors missing (first: fc.weight), 1 tensors surplus" in out
    code, _, err = call(capsys, "run", "--teacher", str(tmp_path / "net.pt"), "--data", "digits")
    assert code == 2
    assert "name its --arch" in err
    (tmp_path / "config.json").write_text("{}")
    code, out, _ = call(capsys, "inspect", str(tmp_path / "net.pt"))
    assert code == 0
    assert f"give its folder, {tmp_path}" in out


def test_a_wrapped_network_is_used_behind_the_normalisation_that_lies_beside_it(tmp_path: Path, folder: Path) -> None:
    mean, std = (torch.tensor(part).reshape(1, 3, 1, 1) for part in normalisation("imagenet", 3)[:2])
    inside = {f"model.{name}": tensor for name, tensor in trained("imagenet/bgr").items()}
    torch.save({"normalize.mean": mean, "normalize.std": std, **inside}, tmp_path / "net.pt")
    found = inspect(Options(teacher=str(tmp_path / "net.pt"), data=str(folder), cache=tmp_path / "cache"))
    assert found.changes == ("inside model", "without normalize.mean, normalize.std")
    assert (found.architecture, found.normalize) == (ARCHITECTURE, "imagenet/bgr"), "it says nothing of the channels"
    identified = identify(open_weights(tmp_path / "net.pt"), TeacherSpec("net.pt"), paint(), "cpu")
    assert told(identified, paint())[-1] == "the file itself states another, imagenet"


def test_names_of_tensors_forge_nothing_on_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, network in enumerate((networks.build(ARCHITECTURE, 18, (3, 8, 8)), nn.Linear(9, 9))):
        forged = {f"\x1b[31m\n::error::x.{name}": tensor for name, tensor in network.state_dict().items()}
        torch.save(forged, tmp_path / f"{number}.pt")
        code, out, _ = call(capsys, "inspect", str(tmp_path / f"{number}.pt"))
        assert (code, "\x1b" in out, "::" in out) == (0, False, False)
        assert all(line[:13].strip().isidentifier() or line.startswith("sha256") for line in out.splitlines())


@pytest.mark.slow
def test_networks_that_share_their_tensors_are_told_apart_by_what_they_answer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = networks.build("torchvision:resnet18", 4, (3, 32, 32))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    found = inspect(Options(teacher=str(tmp_path / "net.pt")))
    assert found.candidates == ("torchvision:resnet18", "timm:resnet18", "timm:resnetblur18")
    assert found.architecture is None
    assert "fits torchvision:resnet18, timm:resnetblur18, which answer differently" in found.undecided
    named = inspect(Options(teacher=str(tmp_path / "net.pt"), arch="resnet18"))
    assert (named.architecture, named.undecided, named.classes) == ("resnet18", "", 4)


@pytest.mark.slow
def test_what_was_found_survives_into_the_record_and_its_students_can_be_trained_again(
    kept: Path, tmp_path: Path, folder: Path, tiny: Suite
) -> None:
    """A network of permuted classes that takes blue first, of which the command line names the classes alone."""
    order = np.random.default_rng(0).permutation(18)
    names = tuple(f"c{c:02d}" for c in order)
    path = bare(tmp_path / "net.pt", order=order)
    wanted = Options(
        teacher=str(path),
        data=str(folder),
        classes=names,
        attacks="soft-kd",
        effort="smoke",
        cache=kept,
        out=tmp_path / "out",
        quiet=True,
    )
    with pytest.raises(RefusedInput, match="classes in another order"):
        run(replace(wanted, classes=()))
    record = run(wanted).record
    assert (record.settings.arch, record.settings.normalize) == (ARCHITECTURE, "imagenet/bgr")
    assert record.settings.classes == names
    assert record.teacher.bgr
    assert record.teacher.validation_accuracy > 0.9
    assert "other-normalisation" not in [flag.id for flag in record.flags]
    assert all(one.agrees for one in repeat(tmp_path / "out", 1, cache=kept))
    assert "blue first" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    plain = bare(tmp_path / "plain.pt")
    task, weights = open_task(TeacherSpec(str(plain), str(folder)), Cache(kept))
    place = Runtime(Cache(kept), "cpu", print)
    prints = {
        open_target(spec, task, task.train, weights, FULL, 1, place).fingerprint
        for spec in (
            TeacherSpec(str(plain), str(folder), ARCHITECTURE, "imagenet"),
            TeacherSpec(str(plain), str(folder), ARCHITECTURE, "imagenet/bgr"),
            TeacherSpec(str(plain), str(folder), ARCHITECTURE, "imagenet", classes=names),
        )
    }
    assert len(prints) == 3


def test_outputs_that_went_through_a_softmax_are_noticed() -> None:
    logits = torch.randn(5, 7)
    assert kind(logits) == "logits"
    assert kind(logits.softmax(-1)) == "probabilities"
    assert kind(logits.log_softmax(-1)) == "log-probabilities"
    assert kind(nn.functional.one_hot(torch.arange(5), 7)) == "probabilities"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no file"),
        (b"\n \n", "names no class"),
        (b"a\nb\na\n", "names 'a' twice"),
        (b"\xff\xfe\xfa", "not UTF-8"),
    ],
)
def test_a_file_of_classes_that_cannot_be_used_gets_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, sentence: str
) -> None:
    names = tmp_path / "names.txt"
    if content is not None:
        names.write_bytes(content)
    code, _, err = call(capsys, "inspect", "net.pt", "--classes", str(names))
    assert code == 4
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        (["demo"], 2, "demo is a built-in teacher, not a file"),
        (["nope.pt"], 4, "there is no file nope.pt"),
        (["nope.pt", "--device", "tpu"], 2, "cpu, cuda"),
    ],
)
def test_a_mistake_gets_one_sentence(
    capsys: pytest.CaptureFixture[str], argv: list[str], code: int, sentence: str
) -> None:
    got, _, err = call(capsys, "inspect", *argv)
    assert (got, sentence in err, err.count("\n")) == (code, True, 1)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_program_is_probed_in_a_process_of_its_own(
    kept: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    task, path = load_task("digits", kept), tmp_path / "m.pt"
    torch.jit.trace(fragile(task, (0.5,), (0.5,)).eval(), torch.zeros(1, *task.shape)).save(path)
    found = inspect(Options(teacher=str(path), data="digits", trust_model_code=True, cache=kept))
    assert (found.format, found.normalize) == ("torchscript", "half")
    assert found.accuracy is not None
    assert found.accuracy.right / found.accuracy.images > 0.8
    assert "normalisation half: right on" in capfd.readouterr().err
    alone = inspect(Options(teacher=str(path), trust_model_code=True, cache=kept))
    assert (alone.classes, alone.channels, alone.outputs, alone.parameters) == (10, 1, "logits", found.parameters)


class Heads(nn.Module):
    """A network that puts out probabilities for 7 classes and, where asked, features beside them."""

    def __init__(self, beside: bool) -> None:
        super().__init__()
        self.first, self.last, self.beside = nn.Conv2d(3, 5, 3), nn.Linear(5, 7), beside
        self.register_buffer("running_mean", torch.zeros(5))

    def forward(self, x: torch.Tensor) -> Any:
        features = self.first(x).relu().mean((2, 3)) - self.running_mean - 9
        answers = self.last(features).softmax(1)
        return {"features": features, "logits": answers} if self.beside else answers


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("beside", [False, True], ids=["one output", "two outputs"])
def test_a_program_without_data_says_what_it_puts_out(tmp_path: Path, beside: bool) -> None:
    path, network = tmp_path / "net.ts", Heads(beside).eval()
    torch.jit.save(torch.jit.trace(network, torch.rand(2, 3, 32, 32), strict=False), path)  # type: ignore[no-untyped-call]
    found = inspect(Options(teacher=str(path), trust_model_code=True, device="cpu", cache=tmp_path / "cache"))
    assert (found.architecture, found.parameters, found.classes) == ("torchscript", 3 * 5 * 9 + 5 + 5 * 7 + 7, 7)
    assert (found.channels, found.fixed, found.outputs, found.undecided) == (3, False, "probabilities", "")
    assert found.heads == (("logits (7 numbers, probabilities)", "features (5 numbers, logits)") if beside else ())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_program_that_takes_no_images_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.ts"
    torch.jit.save(torch.jit.trace(nn.Linear(4, 2), torch.rand(2, 4)), path)  # type: ignore[no-untyped-call]
    code, said, _ = call(capsys, "inspect", str(path), "--trust-model-code")
    assert code == 0
    assert re.search(r"was not run: .*net.ts does not answer images of shape \(3, 224, 224\)", said)
    assert "parameters     unknown" in said


def test_an_onnx_program_says_which_images_it_takes(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the [onnx] extra")
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = helper.make_tensor("w", kind, [12, 4], np.arange(48, dtype=np.float32).tolist())
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    ends = [
        helper.make_tensor_value_info(name, kind, shape) for name, shape in (("x", ["n", 3, 2, 2]), ("y", ["n", 4]))
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "net.onnx"))
    found = inspect(Options(teacher=str(tmp_path / "net.onnx"), device="cpu", cache=tmp_path / "cache"))
    assert (found.channels, found.size, found.fixed, found.classes, found.parameters) == (3, 2, True, 4, 48)
    assert found.outputs == "logits"


def test_data_that_was_given_is_not_asked_for(tmp_path: Path, folder: Path) -> None:
    """A normalisation that stays open with data asks for --normalize alone."""
    found = inspect(Options(teacher=str(bare(tmp_path / "net.pt")), device="cpu", cache=tmp_path / "cache"))
    assert "give --data, or --normalize" in str(_inspected(found)["normalisation"])
    given = replace(found, given=True)
    assert _inspected(given)["normalisation"] == "undecided: give --normalize"


def test_statistics_of_batch_norm_are_no_parameters(tmp_path: Path) -> None:
    torch.save({"odd.weight": torch.zeros(3), "odd.running_mean": torch.zeros(5)}, tmp_path / "net.pt")
    found = inspect(Options(teacher=str(tmp_path / "net.pt"), device="cpu", cache=tmp_path / "cache"))
    assert found.parameters == 3
