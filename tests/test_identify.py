"""How a stranger's checkpoint is used: found on small networks that are trained behind every normalisation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from colours import ARCHITECTURE, HUES, paint, taught, trained
from torch import Tensor, nn

from audit.cache.store import Cache
from teachers import intake, networks
from teachers.errors import RefusedInput, UsageError
from teachers.intake.architecture import Candidate, Guess
from teachers.oracle import Box
from teachers.surface import Answers
from teachers.targets import probe
from teachers.targets.identify import DEFAULT, identify, settled, told
from teachers.targets.probe import BYTES, normalisations
from teachers.targets.runtime import Runtime
from teachers.targets.spec import TeacherSpec
from teachers.task import Pool, Task


def saved(tensors: dict[str, Tensor], folder: Path) -> intake.Weights:
    torch.save(tensors, folder / "t.pt")
    return intake.open_weights(folder / "t.pt")


def spec(folder: Path, **more: object) -> TeacherSpec:
    return replace(TeacherSpec(str(folder / "t.pt"), "colours"), **more)  # type: ignore[arg-type]


def settle(
    tensors: dict[str, Tensor], folder: Path, task: Task, notes: list[str] | None = None, **more: object
) -> TeacherSpec:
    weights = saved(tensors, folder)
    place = Runtime(Cache(folder), "cpu", (notes if notes is not None else []).append)
    return settled(spec(folder, **more), task, weights, place)


@pytest.mark.parametrize(
    "normalize",
    [pytest.param("half", marks=pytest.mark.slow), pytest.param("imagenet/bgr", marks=pytest.mark.slow), BYTES],
)
def test_the_normalisation_that_a_network_was_trained_behind_is_found(normalize: str, tmp_path: Path) -> None:
    notes: list[str] = []
    found = settle(trained(normalize), tmp_path, paint(), notes)
    assert (found.architecture, found.normalize) == (ARCHITECTURE, normalize)
    assert notes[0] == f"architecture {ARCHITECTURE}"
    assert notes[1].startswith(f"normalisation {normalize}: right on ")
    assert "McNemar" in notes[1]


@pytest.mark.slow
def test_every_normalisation_is_found(tmp_path: Path) -> None:
    for text in normalisations(paint()):
        assert settle(trained(text), tmp_path, paint()).normalize == text


@pytest.mark.parametrize("normalize", [None, "half"])
def test_every_image_that_a_file_is_shown_beforehand_is_counted(
    normalize: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = 0
    answer, look = Box.__call__, probe.raw

    def boxed(self: Box, images: Tensor) -> Answers:
        nonlocal shown
        shown += len(images)
        return answer(self, images)

    def looked(network: nn.Module, x: Tensor) -> Tensor:
        nonlocal shown
        shown += len(x)
        return look(network, x)

    monkeypatch.setattr(Box, "__call__", boxed)
    monkeypatch.setattr(probe, "raw", looked)
    found = settle(trained("half"), tmp_path, paint(), normalize=normalize)
    assert found.tried == shown > 0


def test_what_a_file_states_is_kept_unless_another_is_clearly_better(tmp_path: Path) -> None:
    """Behind imagenet, cifar's normalisation takes nothing away from a network that tells red from blue."""
    task = coarse(paint())
    tied = saved(taught(task, intake.normalisation("imagenet", 3)), tmp_path)
    stated = identify(replace(tied, normalize=str(intake.normalisation("cifar", 3))), spec(tmp_path), task, "cpu")
    assert (stated.normalize, stated.stated) == ("cifar", "cifar")
    assert told(stated, task)[-1] == "the file itself states this one"
    of_one_channel = identify(replace(tied, normalize="0.5,0.5/0.5,0.5"), spec(tmp_path), task, "cpu")
    assert of_one_channel.stated is None
    clear = replace(saved(trained("half"), tmp_path), normalize="0.3/0.2")
    found = identify(clear, spec(tmp_path), paint(), "cpu")
    assert (found.normalize, found.stated) == ("half", "0.3,0.3,0.3/0.2,0.2,0.2")
    assert told(found, paint())[-1] == "the file itself states another, 0.3,0.3,0.3/0.2,0.2,0.2"


def test_what_the_command_line_says_is_kept(tmp_path: Path) -> None:
    notes: list[str] = []
    found = settle(trained("half"), tmp_path, paint(), notes, normalize="cifar", architecture=ARCHITECTURE)
    assert (found.architecture, found.normalize) == (ARCHITECTURE, "cifar")
    assert notes == [f"architecture {ARCHITECTURE}"]


def coarse(task: Task) -> Task:
    """Ask for red or blue alone: what is a little brighter is the same class."""

    def halved(pool: Pool) -> Pool:
        assert pool.labels is not None
        return replace(pool, labels=pool.labels % HUES)

    return Task("hues", ("red", "blue"), *(halved(pool) for pool in (task.train, task.validation, task.test)))


def test_two_that_tie_are_named_and_neither_is_chosen(tmp_path: Path) -> None:
    """Of a network that tells red from blue, trained behind imagenet, cifar's normalisation takes nothing away."""
    task = coarse(paint())
    tensors = taught(task, intake.normalisation("imagenet", 3))
    weights = saved(tensors, tmp_path)
    found = identify(weights, spec(tmp_path), task, "cpu")
    assert found.choice is not None
    assert not found.choice.clear
    assert {"imagenet", "cifar"} <= {found.choice.best, *found.choice.rivals}
    assert found.normalize is None
    with pytest.raises(UsageError, match=r"no clear normalisation: .*is not clearly better than .*; give --normalize"):
        settle(tensors, tmp_path, task)


def test_the_default_is_kept_where_it_is_as_good_as_any(tmp_path: Path) -> None:
    task, notes = coarse(paint()), list[str]()
    found = settle(taught(task, intake.normalisation("none", 3)), tmp_path, task, notes)
    assert found.normalize == DEFAULT
    assert notes[1].startswith("normalisation none: ")


def test_a_permuted_network_is_refused_and_told_its_order(tmp_path: Path) -> None:
    task = paint()
    order = np.random.default_rng(0).permutation(len(task.classes))  # output j means class order[j]
    tensors = dict(trained("half"))
    for name in ("7.weight", "7.bias"):
        tensors[name] = tensors[name][torch.from_numpy(order)]
    names = tuple(task.classes[c] for c in order)
    notes: list[str] = []
    with pytest.raises(RefusedInput, match=f"classes in another order: reordered as {names[0]}, .*give --classes FILE"):
        settle(tensors, tmp_path, task, notes)
    assert notes[1] == f"classes in the order of the network's outputs, as found: {', '.join(names)}"
    found = settle(tensors, tmp_path, task, classes=names)
    assert found == spec(tmp_path, classes=names, architecture=ARCHITECTURE, normalize="half")


def test_classes_in_the_right_order_are_left_alone_whatever_is_said_of_them(tmp_path: Path) -> None:
    found = identify(saved(trained("half"), tmp_path), spec(tmp_path), paint(), "cpu")
    assert found.permutation is None
    with pytest.raises(UsageError, match="only one has 'c0'"):
        settle(trained("half"), tmp_path, paint(), classes=("x", *paint().classes[1:]))


def test_behind_a_wrong_normalisation_classes_are_confused_and_not_in_another_order(tmp_path: Path) -> None:
    """What is darker then looks like another class: an assignment makes the best of it, and finds no order."""
    found = identify(saved(trained("half"), tmp_path), spec(tmp_path, normalize="cifar"), paint(), "cpu")
    assert found.permutation is None


def test_a_network_at_chance_has_no_other_order_and_keeps_the_default(tmp_path: Path) -> None:
    torch.manual_seed(0)
    fresh = networks.build(ARCHITECTURE, len(paint().classes), paint().shape).state_dict()
    found = identify(saved(fresh, tmp_path), spec(tmp_path), paint(), "cpu")
    assert found.permutation is None
    assert found.normalize in (DEFAULT, None)


def sharing(names: dict[str, type[nn.Module] | None], patch: pytest.MonkeyPatch) -> None:
    """Let networks of several names have the same tensors, with other activations in place of ReLU."""
    real = networks.build

    def build(name: str, classes: int, shape: networks.Shape) -> nn.Module:
        network = real(ARCHITECTURE if name in names else name, classes, shape)
        activation = names.get(name)
        for at, layer in list(network.named_children()):
            if activation is not None and isinstance(layer, nn.ReLU):
                setattr(network, at, activation())
        return network

    patch.setattr(networks, "build", build)
    fits = tuple(Candidate(name, 18, 3, 8, fixed=True) for name in names)
    patch.setattr("teachers.targets.candidates.guess", lambda tensors: Guess(fits))


def test_of_networks_that_share_their_tensors_the_most_accurate_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharing({"tanh": nn.Tanh, "relu": None, "ours": None}, monkeypatch)
    notes: list[str] = []
    found = settle(trained("imagenet/bgr"), tmp_path, paint(), notes)
    assert (found.architecture, found.normalize) == ("relu", "imagenet/bgr")
    assert notes[0].startswith("architecture relu, the most accurate of relu (")
    assert notes[0].endswith("; ours would give the same answers")


def test_where_none_is_clearly_the_best_all_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharing({"relu": None, "nearly": lambda: nn.LeakyReLU(0.001)}, monkeypatch)  # type: ignore[dict-item]
    with pytest.raises(UsageError, match=r"fits several networks, .*relu \(.*nearly \(.*give --arch"):
        settle(trained("half"), tmp_path, paint())
    assert settle(trained("half"), tmp_path, paint(), architecture="relu").normalize == "half"


@pytest.mark.parametrize(
    ("classes", "shape", "sentence"),
    [
        (17, (3, 8, 8), "has 17 outputs but the data has 18 classes"),
        (18, (1, 8, 8), "takes images of 1 channels, the data has 3"),
        (18, (3, 64, 64), "takes images of 64 × 64 pixels, the data has 8 × 8; give --size 64"),
    ],
)
def test_data_that_a_network_does_not_take_are_refused(
    tmp_path: Path, classes: int, shape: networks.Shape, sentence: str
) -> None:
    with pytest.raises(RefusedInput, match=f"\\({ARCHITECTURE}\\) {sentence}"):
        settle(networks.build(ARCHITECTURE, classes, shape).state_dict(), tmp_path, paint())


def test_built_in_teachers_and_cards_say_themselves_what_they_are(tmp_path: Path) -> None:
    place = Runtime(Cache(tmp_path), "cpu", pytest.fail)
    demo = TeacherSpec("demo", "digits")
    assert settled(demo, paint(), None, place) is demo
    with pytest.raises(UsageError, match="leave --classes out"):
        settled(replace(demo, classes=("a",)), paint(), None, place)
