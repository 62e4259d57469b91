"""A network's channels decide how the images of a data set are read, in whatever form it comes."""

from pathlib import Path
from typing import Any

import hostile_images as hostile
import pytest
import torch
from fake_server import FakeServer
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from audit.cache.store import Cache
from audit.context import ordinary_spec
from teachers import intake, networks
from teachers.data import datasets
from teachers.errors import RefusedInput
from teachers.intake import Card
from teachers.networks import PreprocessedNetwork
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import open_task

K, SIDE = 2, 8
MODES = {1: "L", 3: "RGB"}
HELD = "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"


def built(channels: int) -> nn.Module:
    torch.manual_seed(0)
    return networks.build("strided-4-8", K, (channels, SIDE, SIDE)).eval()


def safetensors(network: nn.Module, path: Path, channels: int) -> Path:
    save_file(network.state_dict(), path / "m.safetensors")
    return path / "m.safetensors"


def wrapped(network: nn.Module, path: Path, channels: int) -> Path:
    torch.save({"state_dict": {f"module.{name}": t for name, t in network.state_dict().items()}}, path / "m.pt")
    return path / "m.pt"


def card(network: nn.Module, path: Path, channels: int) -> Path:
    one = Card(
        architecture="strided-4-8",
        classes=("cat", "dog"),
        shape=(channels, SIDE, SIDE),
        mean=(0.5,),
        std=(0.25,),
        data="elsewhere",
        task_digest="0" * 64,
        method="plain",
    )
    intake.save_teacher(PreprocessedNetwork(network, (0.5,), (0.25,)), one, path / "m.safetensors")
    return path / "m.safetensors"


def onnx(network: nn.Module, path: Path, channels: int, sizes: tuple[int, ...] = (0,)) -> Path:
    pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
    images = torch.rand(2, channels, SIDE, SIDE)
    axes = {"x": {axis: f"d{axis}" for axis in sizes}, "y": {0: "d0"}}
    torch.onnx.export(
        network, (images,), path / "m.onnx", dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes
    )
    return path / "m.onnx"


def any_onnx(network: nn.Module, path: Path, channels: int) -> Path:
    return onnx(network, path, channels, (0, 1, 2, 3))


def torchscript(network: nn.Module, path: Path, channels: int) -> Path:
    torch.jit.trace(network, torch.rand(2, channels, SIDE, SIDE)).save(path / "m.pt")
    return path / "m.pt"


def module(network: nn.Module, path: Path, channels: int) -> Path:
    torch.save(network, path / "m.pt")
    return path / "m.pt"


def export(network: nn.Module, path: Path, channels: int) -> Path:
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    torch.export.save(
        torch.export.export(network, (torch.rand(2, channels, SIDE, SIDE),), dynamic_shapes=(batch,)), path / "m.pt2"
    )
    return path / "m.pt2"


def huggingface(network: nn.Module, path: Path, channels: int) -> Path:
    transformers = pytest.importorskip("transformers", reason="the extra [hf] is not installed")
    sizes: dict[str, Any] = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    config = transformers.ResNetConfig(num_labels=K, num_channels=channels, **sizes)
    transformers.ResNetForImageClassification(config).save_pretrained(path / "folder")
    return path / "folder"


FORMS = (
    *(safetensors, wrapped, card, onnx, any_onnx, torchscript, module),
    *(pytest.param(form, marks=pytest.mark.slow) for form in (export, huggingface)),
)


def pictures(root: Path, mode: str) -> Path:
    for file in hostile.folder(root).rglob("*.png"):
        Image.open(file).convert(mode).save(file)
    return root


@pytest.mark.filterwarnings(*HELD)
@pytest.mark.parametrize("channels", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_images_are_read_as_the_network_takes_them(form: Any, channels: int, tmp_path: Path) -> None:
    path, lines = form(built(channels), tmp_path, channels), list[str]()
    for own, mode in MODES.items():
        data = pictures(tmp_path / mode, mode)
        task, _ = open_task(TeacherSpec(str(path), str(data), trust=True), Cache(tmp_path / "cache"), lines.append)
        assert task.shape == (channels, SIDE, SIDE)
        assert task.digest == datasets.load(str(data), channels=channels).digest
        read = [line for line in lines if line.startswith(f"{path} takes {channels} channel")]
        assert len(read) == (own != channels), "told where it is not as the files have it"
        lines.clear()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", MODES)
def test_a_servers_metadata_decide_too(channels: int, layout: str, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", MODES[4 - channels])
    fake = FakeServer(built(channels), (channels, SIDE, SIDE), K, layout=layout)
    with fake.serving() as server:
        task, _ = open_task(TeacherSpec(server.url, str(data)), Cache(tmp_path / "cache"))
    assert task.shape == (channels, SIDE, SIDE)
    assert not server.images


@pytest.mark.filterwarnings(*HELD)
def test_a_program_that_takes_the_images_as_they_are_gets_them_so(tmp_path: Path) -> None:
    """Its first layer is for one channel, but it makes one of three itself."""

    class Gray(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = built(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x.mean(1, keepdim=True))  # type: ignore[no-any-return]

    torch.jit.script(Gray().eval()).save(tmp_path / "m.pt")
    data = pictures(tmp_path / "data", "RGB")
    task, _ = open_task(TeacherSpec(str(tmp_path / "m.pt"), str(data), trust=True), Cache(tmp_path / "cache"))
    assert task.shape[0] == 3


def test_embedded_digits_are_read_in_colour_for_a_network_of_three_channels(tmp_path: Path) -> None:
    network = networks.build("strided-4-8", 10, (3, SIDE, SIDE))
    path = safetensors(network, tmp_path, 3)
    task, _ = open_task(TeacherSpec(str(path), "digits"), Cache(tmp_path / "cache"))
    assert task.shape == (3, SIDE, SIDE)


def test_a_network_of_four_channels_changes_nothing(tmp_path: Path) -> None:
    path = safetensors(networks.build("strided-4-8", K, (4, SIDE, SIDE)), tmp_path, 4)
    task, _ = open_task(TeacherSpec(str(path), str(hostile.folder(tmp_path / "data"))), Cache(tmp_path / "cache"))
    assert task.shape[0] == 3


def test_controls_that_are_trained_ahead_see_the_same_images(tmp_path: Path) -> None:
    data, cache = str(pictures(tmp_path / "data", "L")), Cache(tmp_path / "cache")
    asked = TeacherSpec(str(safetensors(built(3), tmp_path, 3)), data)
    task, _ = open_task(asked, cache)
    ahead, _ = open_task(ordinary_spec(asked, cache), cache)
    assert ahead.digest == task.digest


def test_a_card_that_names_other_classes_is_refused_and_other_accents_are_not(tmp_path: Path) -> None:
    path, cache = card(built(3), tmp_path, 3), Cache(tmp_path / "cache")
    with pytest.raises(RefusedInput, match=r'2 classes .cat, dog. but the data has 2 ."a, b", dog'):
        open_task(TeacherSpec(str(path), str(hostile.folder(tmp_path / "other", ("a, b", "dog")))), cache)
    names = (hostile.COMPOSED, "dog")
    opened = intake.open_weights(path)
    assert opened.card is not None
    intake.save_teacher(
        PreprocessedNetwork(built(3), (0.5,), (0.25,)),
        opened.card.model_copy(update={"classes": names}),
        tmp_path / "n.pt",
    )
    data = hostile.folder(tmp_path / "data", (hostile.DECOMPOSED, "dog"))
    assert open_task(TeacherSpec(str(tmp_path / "n.pt"), str(data)), cache)[0].shape == (3, SIDE, SIDE)
