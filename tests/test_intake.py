"""Checkpoints are told apart by content, opened without running anything, and refused with a sentence."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from teachers import intake, networks
from teachers.errors import RefusedInput, UsageError

SHAPE = (1, 16, 16)


def tensors(classes: int = 5) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return networks.build("strided-4-8", classes, SHAPE).state_dict()


def save(path: Path, content: object, **more: object) -> Path:
    torch.save(content, path, **more)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("nest", [None, "state_dict", "model_state_dict", "model", "net", "module", "ema", "model_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_usual_nestings_and_prefixes_load(tmp_path: Path, nest: str | None, prefix: str) -> None:
    named = {prefix + name: t for name, t in tensors().items()}
    path = save(tmp_path / "m.bin", named if nest is None else {nest: named, "epoch": 3})
    teacher = intake.assemble(intake.open_weights(path), "strided-4-8", 5, SHAPE, "half")
    x = torch.rand(3, *SHAPE)
    plain = networks.build("strided-4-8", 5, SHAPE)
    plain.load_state_dict(tensors())
    torch.testing.assert_close(teacher.network.eval()(x), plain.eval()((x - 0.5) / 0.5))


def test_legacy_container_and_safetensors_load_whatever_their_names(tmp_path: Path) -> None:
    old = save(tmp_path / "old.safetensors", tensors(), _use_new_zipfile_serialization=False)
    new = tmp_path / "new.pt"
    save_file(tensors(), new)
    for path in (old, new):
        assert intake.open_weights(path).tensors.keys() == tensors().keys()


class Evil:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (Path.touch, (Path("evil-was-here"),))


def test_a_pickled_module_is_refused_and_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = save(tmp_path / "whole.pt", nn.Linear(2, 2))
    with pytest.raises(RefusedInput, match="more than tensors"):
        intake.open_weights(whole)
    evil = save(tmp_path / "evil.pt", {"state_dict": tensors(), "x": Evil()})
    with pytest.raises(RefusedInput, match="more than tensors"):
        intake.open_weights(evil)
    raw = tmp_path / "raw.pt"
    raw.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(RefusedInput, match="is a pickle, which would run code"):
        intake.open_weights(raw)
    assert not (tmp_path / "evil-was-here").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not a checkpoint that this tool knows"),
        (b"hello, world, this is text", "not a checkpoint that this tool knows"),
        (b"GGUF" + bytes(40), "is a GGUF file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "Keras"),
        (b"PK\x03\x04" + bytes(40), "damaged zip"),
        ((20).to_bytes(8, "little") + b'{"a":1}' + bytes(20), "damaged safetensors"),
    ],
)
def test_foreign_and_damaged_files_are_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(RefusedInput, match=sentence):
        intake.open_weights(path)


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        ("m/constants.pkl", "TorchScript"),
        ("m/archive_format", "torch.export"),
        ("MAR-INF/MANIFEST.json", "TorchServe"),
        ("readme.txt", "not a checkpoint"),
    ],
)
def test_programs_in_zip_files_are_refused(tmp_path: Path, member: str, sentence: str) -> None:
    path = tmp_path / "file.pt"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr(member, "x")
    with pytest.raises(RefusedInput, match=sentence):
        intake.open_weights(path)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.pt", tensors())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(RefusedInput):
        intake.open_weights(path)


def test_a_missing_file_suggests_a_near_name(tmp_path: Path) -> None:
    save(tmp_path / "model.pt", tensors())
    with pytest.raises(RefusedInput, match=r"did you mean .*model\.pt"):
        intake.open_weights(tmp_path / "modle.pt")


def test_nan_weights_are_refused(tmp_path: Path) -> None:
    broken = tensors()
    broken["0.weight"][0, 0, 0, 0] = torch.nan
    with pytest.raises(RefusedInput, match=r"0\.weight has NaN"):
        intake.open_weights(save(tmp_path / "m.pt", broken))


def test_a_wrong_architecture_names_the_keys_that_differ(tmp_path: Path) -> None:
    held = intake.open_weights(save(tmp_path / "m.pt", tensors()))
    with pytest.raises(RefusedInput, match=r"missing \(first: .*surplus|missing \(first"):
        intake.assemble(held, "strided-4-8-8", 5, SHAPE, "none")
    with pytest.raises(RefusedInput, match=r"0\.weight has shape \(4, 1, 3, 3\), not \(6, 1, 3, 3\)"):
        intake.assemble(held, "strided-6-8", 5, SHAPE, "none")
    with pytest.raises(RefusedInput, match="has 5 outputs but the data has 7 classes"):
        intake.assemble(held, "strided-4-8", 7, SHAPE, "none")


def test_an_unknown_architecture_suggests_near_names() -> None:
    with pytest.raises(UsageError, match=r"did you mean .*resnet18"):
        networks.build("resnet81", 10, (3, 32, 32))
    with pytest.raises(UsageError, match="6n"):
        networks.build("resnet-21", 10, (3, 32, 32))
    with pytest.raises(RefusedInput, match="cannot be halved"):
        networks.build("cnn-4-4-4-4-4", 10, (3, 16, 16))


@pytest.mark.parametrize("name", ["cnn-4-8", "strided-4-8", "resnet-8", "torchvision:resnet18", "timm:resnet10t"])
def test_networks_give_one_logit_a_class(name: str) -> None:
    network = networks.build(name, 6, (3, 32, 32)).eval()
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 6)


@pytest.mark.parametrize("name", ["torchvision:vit_b_16", "timm:vit_tiny_patch16_224"])
def test_networks_of_one_input_size_are_built_for_the_size_of_the_images(name: str) -> None:
    with torch.device("meta"):
        assert networks.build(name, 6, (3, 32, 32)).eval()(torch.rand(2, 3, 32, 32)).shape == (2, 6)


def test_outputs_are_put_into_the_order_of_the_datas_classes(tmp_path: Path) -> None:
    held = intake.open_weights(save(tmp_path / "m.pt", tensors(3)))
    plain = intake.assemble(held, "strided-4-8", 3, SHAPE, "none")
    x = torch.rand(3, *SHAPE)
    turned = intake.reordered(plain, ("c", "a", "b"), ("a", "b", "c"))
    assert turned.order == (1, 2, 0)
    torch.testing.assert_close(turned.network.eval()(x), plain.network.eval()(x)[:, [1, 2, 0]])
    assert intake.reordered(plain, ("a", "b", "c"), ("a", "b", "c")) is plain
    with pytest.raises(UsageError, match="only one has 'c'"):
        intake.reordered(plain, ("a", "b", "d"), ("a", "b", "c"))
    with pytest.raises(UsageError, match="4 lines name 3 classes"):
        intake.reordered(plain, ("a", "b", "c", "a"), ("a", "b", "c"))


def test_a_cifar_resnet_has_the_published_size() -> None:
    """0.27 M parameters for depth 20, 0.85 M for 56 (He et al. 2016, table 6)."""
    sizes = [sum(p.numel() for p in networks.build(f"resnet-{d}", 10, (3, 32, 32)).parameters()) for d in (20, 56)]
    assert [round(s / 1e6, 2) for s in sizes] == [0.27, 0.85]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", ((0.0,) * 3, (1.0,) * 3)),
        ("0.5/0.25", ((0.5,) * 3, (0.25,) * 3)),
        ("1,2,3/4,5,6", ((1, 2, 3), (4, 5, 6))),
    ],
)
def test_normalisations_are_read(text: str, expected: tuple[object, ...]) -> None:
    assert intake.normalisation(text, 3) == (*expected, False)
    again = intake.normalisation(f"{text}/bgr", 3)
    assert again == (*expected, True)
    assert intake.normalisation(str(again), 3) == again


def test_bgr_turns_normalised_channels_round_and_needs_three() -> None:
    network = networks.PreprocessedNetwork(nn.Identity(), *intake.normalisation("1,2,3/4,5,6/bgr", 3))
    x = torch.rand(2, 3, 1, 1)
    shift, scale = torch.tensor([3.0, 2, 1]), torch.tensor([6.0, 5, 4])
    torch.testing.assert_close(network(x), (x.flip(1) - shift[:, None, None]) / scale[:, None, None])
    with pytest.raises(UsageError, match="no blue"):
        intake.normalisation("half/bgr", 1)


@pytest.mark.parametrize("text", ["imagent", "0.5", "1,2/3", "0.5/0", "a/b", "bgr", "imagenet/rgb"])
def test_wrong_normalisations_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--normalize"):
        intake.normalisation(text, 3)


@pytest.mark.parametrize("name", ["t.pt", "t.safetensors"])
def test_a_taught_checkpoint_carries_its_card(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    network = networks.raw_pixels(networks.build("strided-4-8", 2, SHAPE), 1)
    card = intake.Card(
        architecture="strided-4-8",
        classes=("a", "ü"),
        shape=SHAPE,
        mean=(0.5,),
        std=(0.25,),
        data="glyphs",
        task_digest="0" * 64,
        method="cmim",
        settings={"temperatures": (1.0, 2.0)},
    )
    intake.save_teacher(network, card, tmp_path / name)
    opened = intake.open_weights(tmp_path / name)
    assert opened.card == card
    again = intake.assemble(opened, "strided-4-8", 2, SHAPE, "0.5/0.25")
    x = torch.from_numpy(np.random.default_rng(0).random((2, *SHAPE), dtype=np.float32))
    assert torch.equal(again.network.eval()(x), network.eval()(x))
