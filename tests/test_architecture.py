"""An architecture is guessed from names and shapes alone, whatever the classes and the input size."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from teachers import networks
from teachers.intake import build_index
from teachers.intake.architecture import Candidate, guess, weightless
from teachers.intake.fingerprint import Grid, Length, alike, index, sketch, written
from teachers.intake.spelling import spelled, spellings

BENCHMARK = Path(__file__).resolve().parent.parent / "benchmarks" / "architectures.py"


def tensors(name: str, classes: int, shape: networks.Shape) -> dict[str, Tensor]:
    return weightless(name, classes, shape).state_dict()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("cnn-4-8", (1, 16, 16)),
        ("cnn-4", (3, 32, 32)),
        ("strided-4-8-16", (3, 8, 8)),
        ("strided-4-8", (1, 12, 12)),
        ("resnet-8", (3, 32, 32)),
        ("resnet-20", (1, 16, 16)),
        ("resnet18-small", (1, 32, 32)),
        ("torchvision:resnet18", (3, 224, 224)),
        ("torchvision:regnet_y_400mf", (3, 224, 224)),
        ("torchvision:vit_b_16", (3, 32, 32)),
        ("timm:resnet18d", (1, 64, 64)),
        ("timm:vit_tiny_patch16_224", (3, 32, 32)),
        ("timm:mixer_s32_224", (3, 64, 64)),
        ("timm:swin_tiny_patch4_window7_224", (3, 224, 224)),
    ],
)
@pytest.mark.parametrize("classes", [10, 100])
def test_a_network_is_recognised_and_can_be_built_again(name: str, shape: networks.Shape, classes: int) -> None:
    given = tensors(name, classes, shape)
    found = guess(given).candidates
    assert found[0].name == name
    assert (found[0].classes, found[0].channels) == (classes, shape[0])
    assert found[0].size == shape[1] or not found[0].fixed
    again = tensors(name, classes, (shape[0], found[0].size or 32, found[0].size or 32))
    assert {k: t.shape for k, t in again.items()} == {k: t.shape for k, t in given.items()}


@pytest.mark.parametrize("side", [8, 9, 12, 17, 28, 30, 31, 32])
@pytest.mark.parametrize("kind", ["cnn", "strided"])
def test_the_input_size_of_ours_is_one_that_fits(kind: str, side: int) -> None:
    given = tensors(f"{kind}-4-8-16", 10, (3, side, side))
    (found,) = guess(given).candidates
    assert found.name == f"{kind}-4-8-16"
    assert found.size is not None
    again = tensors(found.name, 10, (3, found.size, found.size))
    assert {k: t.shape for k, t in again.items()} == {k: t.shape for k, t in given.items()}


def test_networks_that_share_all_tensors_are_ranked_ours_torchvision_timm() -> None:
    names = [c.name for c in guess(tensors("timm:resnet50", 10, (3, 32, 32))).candidates]
    assert names[:2] == ["torchvision:resnet50", "timm:resnet50"]
    names = [c.name for c in guess(tensors("timm:tf_efficientnet_b0", 10, (3, 32, 32))).candidates]
    assert names[0] == "timm:efficientnet_b0"
    assert "timm:tf_efficientnet_b0" in names[:3]
    at_384 = [c.name for c in guess(tensors("timm:vit_base_patch16_384", 10, (3, 384, 384))).candidates]
    assert at_384[0] == "timm:vit_base_patch16_384"


def test_counters_of_batch_norms_may_be_missing() -> None:
    given = {k: t for k, t in tensors("torchvision:resnet18", 10, (3, 32, 32)).items() if "num_batches" not in k}
    assert guess(given).candidates[0].name == "torchvision:resnet18"


def wrapped(given: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in given.items()}


def behind_dropout(given: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    return {name.replace(f"{head}.", f"{head}.1."): tensor for name, tensor in given.items()}


RESNET, VIT = "torchvision:resnet18", "timm:vit_tiny_patch16_224"
STATISTICS = {"0.mean": torch.tensor([[[0.4]], [[0.5]], [[0.6]]]), "0.std": torch.tensor([[[0.2]], [[0.2]], [[0.3]]])}


@pytest.mark.parametrize(
    ("name", "changed", "changes"),
    [
        (RESNET, lambda t: wrapped(t, "backbone."), ("inside backbone",)),
        (RESNET, lambda t: wrapped(t, "model.net."), ("inside model", "inside net")),
        (RESNET, lambda t: behind_dropout(t, "fc"), ("fc.1 as fc",)),
        (RESNET, lambda t: wrapped(behind_dropout(t, "fc"), "m."), ("inside m", "fc.1 as fc")),
        (RESNET, lambda t: STATISTICS | wrapped(t, "1."), ("inside 1", "without 0.mean, 0.std")),
        (VIT, lambda t: wrapped(behind_dropout(t, "head"), "module."), ("inside module", "head.1 as head")),
        ("strided-4-8", lambda t: wrapped(t, "_orig_mod."), ("inside _orig_mod",)),
        (RESNET, lambda t: t, ()),
    ],
)
def test_a_wrapped_network_is_recognised_and_what_was_changed_is_told(
    name: str, changed: Callable[[dict[str, Tensor]], dict[str, Tensor]], changes: tuple[str, ...]
) -> None:
    given = tensors(name, 10, (3, 32, 32))
    first = guess(changed(given)).candidates[0]
    assert first.normalize == ("0.4,0.5,0.6/0.2,0.2,0.3" if "0.mean" in changed(given) else None)
    assert (first.name, first.classes, first.changes) == (name, 10, changes)
    found = spelled(changed(given), given)
    assert found.tensors.keys() == given.keys()
    assert all(found.tensors[key] is tensor for key, tensor in given.items())


def test_no_weight_is_left_out_and_no_second_layer_is_taken_for_the_first() -> None:
    given = tensors(RESNET, 10, (3, 32, 32))
    for name, size in (("projector.weight", 8), ("temperature", 1), ("mean", 1), ("mean", 9)):
        assert guess(wrapped(given, "student.") | {name: torch.ones(size)}).candidates == ()
    two = behind_dropout(given, "fc") | {"fc.3.weight": torch.zeros(10, 10)}
    assert guess(two).candidates == ()
    assert spelled(two, given).tensors is two


def test_names_without_end_take_no_time() -> None:
    tensor, many = torch.zeros(1, 1), 20_000
    deep = {".".join("a" * many) + f".{i}.weight": tensor for i in range(9)}
    for given in ({f"{i}.0.weight": tensor for i in range(many)}, deep, {f"a.{i}.weight": tensor for i in range(many)}):
        assert len(list(spellings(given))) < 50


def test_a_near_miss_says_what_differs() -> None:
    given = tensors("timm:resnet18d", 10, (3, 32, 32))
    head = given.pop("fc.weight")
    found = guess(given | {"fc.1.weight": head})
    assert found.candidates == ()
    assert found.nearest == "timm:resnet18d"
    assert found.differs == "1 tensors missing (first: fc.weight), 1 tensors surplus (first: fc.1.weight)"
    wider = tensors("torchvision:resnet18", 10, (3, 32, 32))
    wider["layer4.1.conv2.weight"] = torch.empty(7, 512, 3, 3)
    told = guess(wider).told
    assert "torchvision:resnet18" in told
    assert "1 tensors of another shape (first: layer4.1.conv2.weight (7, 512, 3, 3), not (512, 512, 3, 3))" in told


def test_what_is_like_nothing_is_said_to_be() -> None:
    found = guess(nn.Linear(3, 4).state_dict())
    assert found.candidates == ()
    assert "none of 1," in found.told
    assert guess({}).candidates == ()


@pytest.mark.parametrize(
    "name", ["resnet18-small", "torchvision:resnet18", "timm:vit_tiny_patch16_224", "timm:levit_128"]
)
def test_the_index_is_what_its_script_writes(name: str) -> None:
    (kept,) = [entry for entry in index() if entry.name == name]
    assert written([build_index.entry(name)]) == written([kept])


def test_the_index_is_small_and_names_each_network_once() -> None:
    names = [entry.name for entry in index()]
    assert len(names) == len(set(names)) > 1_400
    assert len(written(index())) < 2_000_000


def test_an_input_size_follows_from_the_length_of_a_position_embedding() -> None:
    grid = Grid(Length("pos", 1), (224, 32), (197, 5))
    assert grid.size({"pos": (1, 37, 8)}) == 96
    assert grid.size({"pos": (1, 38, 8)}) is None
    assert grid.size({"pos": (1,)}) is None
    assert grid.size({}) is None


def test_sketches_estimate_what_two_networks_share() -> None:
    one = {f"a{i}": (i,) for i in range(400)}
    other = {f"a{i}": (i,) for i in range(200, 600)}
    assert alike(sketch(one, {}), sketch(one, {})) == 1
    assert alike(sketch(one, {}), sketch({"b": (1,)}, {})) < 0.1
    assert abs(alike(sketch(one, {}), sketch(other, {})) - 1 / 3) < 0.25


def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("architectures", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("number", "seed"), [(12, 1), pytest.param(60, 0, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_most_networks_of_timm_and_torchvision_are_among_the_first_three(number: int, seed: int) -> None:
    module = benchmark()
    places = [module.guessed(case).place for case in module.cases(number, seed)]
    assert sum(place is not None and place <= 3 for place in places) >= 0.95 * number


def test_a_guess_takes_no_network_of_a_thousand() -> None:
    given = tensors("timm:resnet18d", 10, (3, 32, 32))
    built = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "build", lambda *a: built.append(a))
        assert [c.name for c in guess(given).candidates] == ["timm:resnet18d"]
    assert built == []


def test_candidates_say_what_they_know() -> None:
    (found,) = guess(tensors("timm:resnet18d", 7, (1, 32, 32))).candidates
    assert found == Candidate("timm:resnet18d", 7, 1, found.size, fixed=False)
