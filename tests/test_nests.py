"""Checkpoints as training frameworks save them load without a flag, and answer like the network they came from."""

import argparse
import collections
import datetime
import decimal
import enum
import fractions
import functools
import pathlib
import random
import sys
import types
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import hostile_tensors
import numpy as np
import pytest
import torch
from command_line import call
from torch import Tensor, nn

from audit.inspection.inspection import inspect
from audit.plan.options import Options
from teachers import intake, networks
from teachers.errors import RefusedInput, UsageError
from teachers.intake.architecture import guess, weightless
from teachers.intake.spelling import spelled
from teachers.targets.candidates import candidates
from teachers.targets.spec import TeacherSpec

SHAPE, K, ARCH = (3, 16, 16), 5, "strided-4-8"
RESNET = "torchvision:resnet18"
Tensors = dict[str, Tensor]


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return networks.build(ARCH, K, SHAPE).eval()


def state(seed: int = 0) -> Tensors:
    return dict(network(seed).state_dict())


def under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    return {f"{prefix}.{name}": t for name, t in tensors.items()}


def optimizer() -> dict[str, object]:
    net = network()
    made = torch.optim.Adam(net.parameters())
    net(torch.rand(2, *SHAPE)).sum().backward()
    made.step()
    return made.state_dict()


def by_name(optimizer: Mapping[str, object]) -> dict[str, object]:
    """Key an optimiser's state by names, as FSDP does."""
    held: dict[int, object] = optimizer["state"]  # type: ignore[assignment]
    return {"state": {f"layer{i}.weight": one for i, one in held.items()}, "param_groups": []}


def lightning() -> dict[str, object]:
    more = {"criterion.weight": torch.ones(K), "train_acc.tp": torch.zeros(K), "val_f1.total": torch.tensor(0)}
    best = {"best_model_score": torch.tensor(0.9), "best_model_path": "a.ckpt", "dirpath": pathlib.Path("runs")}
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": under("model", state()) | more,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": best},
        "optimizer_states": [optimizer()],
        "lr_schedulers": [{"base_lrs": [0.1], "_last_lr": [0.1]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "optimizer": functools.partial(torch.optim.SGD, lr=0.1)},
    }


CONTAINERS: dict[str, Callable[[], object]] = {
    "params": lambda: {"params": state()},
    "student": lambda: {"student": state(), "epoch": 1},
    "network": lambda: {"network": state(), "optimizer": optimizer()},
    "weights": lambda: {"weights": state()},
    "model_state": lambda: {"model_state": state()},
    "state_dict_ema": lambda: {"state_dict_ema": state()},
    "generator": lambda: {"generator": state()},
    "a name with a dot": lambda: {"model.state_dict": state()},
    "a name that nobody knows": lambda: {"Gewichte": state(), "Epoche": 3},
    "a nest in a nest": lambda: {"model": {"state_dict": state()}},
    "three deep": lambda: {"state": {"model": {"weights": state()}}, "rng": [torch.get_rng_state()]},
    "a list": lambda: [state()],
    "a tuple with an epoch": lambda: (state(), 3),
    "a list in a dict": lambda: {"models": [state()]},
    "a default dict": lambda: collections.defaultdict(list, state_dict=state()),
    "a dict of a script's": lambda: {"state_dict": DotDict(state())},
    "an optimiser's by name": lambda: {"network": state(), "optimizer": by_name(optimizer())},
    "lightning": lightning,
    "an averaged model": lambda: torch.optim.swa_utils.AveragedModel(network()).state_dict(),
    "data parallel": lambda: nn.DataParallel(network()).state_dict(),
    "compiled in a wrapper": lambda: {"state_dict": under("model._orig_mod", state())},
    "fsdp": lambda: under("_fsdp_wrapped_module._orig_mod", state()),
    "a checkpointed layer": lambda: {n.replace("0.w", "0._checkpoint_wrapped_module.w"): t for n, t in state().items()},
    "data parallel within": lambda: {n.replace("7.", "7.module."): t for n, t in under("net", state()).items()},
    "losses beside the network": lambda: (
        state() | {"loss_fn.weight": torch.ones(K), "ce_loss.pos_weight": torch.ones(1)}
    ),
    "a metric without a number": lambda: under("net", state()) | {"val_acc_best.max_value": torch.tensor(-torch.inf)},
    "a copy of the same values": lambda: under("model", state()) | under("attacker.model", state()),
    "an average beside it": lambda: under("model", state()) | under("model_ema.module", state(1)),
    "deepspeed": lambda: {"module": state(), "buffer_names": ["1.running_mean"], "ds_config": {}, "ds_version": "0.15"},
    "composer": lambda: {"state": {"model": under("module", state()), "timestamp": {}}, "rng": [{"cuda": None}]},
    "a random state beside": lambda: state() | {"rng_state": torch.get_rng_state()},
}


class DotDict(dict[str, object]):
    """As every other training script has one."""


class Colour(enum.Enum):
    red = 1


@dataclass
class Config:
    """A training script's."""

    lr: float = 0.1
    layers: tuple[int, ...] = (1, 2)


# What training scripts save beside the weights.
BESIDES: dict[str, Callable[[], object]] = {
    "numpy array": lambda: np.arange(6.0).reshape(2, 3),
    "numpy array of objects": lambda: np.array([{"a": 1}, None], object),
    "numpy scalars": lambda: [np.dtype(c).type(1) for c in "?bBhHiIlLqQefd"] + [np.complex64(1), np.str_("a")],
    "numpy dates": lambda: (np.datetime64("2024-01-01"), np.timedelta64(1, "D")),
    "numpy type": lambda: np.float32,
    "torch random state": torch.get_rng_state,
    "numpy random state": np.random.get_state,
    "numpy generator": lambda: np.random.default_rng(0),
    "numpy RandomState": lambda: np.random.RandomState(0),
    "python random state": random.getstate,
    "torch version": lambda: torch.__version__,
    "datetime": lambda: datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    "timedelta": lambda: datetime.timedelta(1),
    "posix path": lambda: pathlib.PurePosixPath("a"),
    "windows path": lambda: pathlib.PureWindowsPath("a"),
    "enum member": lambda: Colour.red,
    "namespace": lambda: argparse.Namespace(lr=0.1, out=Path("runs"), when=datetime.date(2024, 1, 1)),
    "default dict": lambda: collections.defaultdict(list, a=[1]),
    "counter": lambda: collections.Counter("aab"),
    "deque": lambda: collections.deque([1, 2], 5),
    "partial": lambda: functools.partial(torch.optim.SGD, lr=0.1),
    "slice": lambda: slice(1, 2),
    "range": lambda: range(3),
    "sets": lambda: ({1, 2}, frozenset([3])),
    "dict of a script's": lambda: DotDict(a=1),
    "dataclass": Config,
    "a script's class": lambda: Config,
    "an optimiser's class": lambda: torch.optim.SGD,
    "simple namespace": lambda: types.SimpleNamespace(a=1),
    "uuid": lambda: uuid.UUID(int=1),
    "decimal": lambda: decimal.Decimal("1.5"),
    "fraction": lambda: fractions.Fraction(1, 2),
    "torch types": lambda: (torch.float32, torch.device("cpu"), torch.Size([1, 2]), torch.strided),
    "a loss": lambda: nn.CrossEntropyLoss(weight=torch.ones(K)),
    "an exception": lambda: ValueError("x"),
    "bytes": lambda: (b"ab", bytearray(b"c"), 1j),
    "itself": lambda: circle(),
    "types": lambda: (int, type(None), ...),
}


def circle() -> object:
    found: dict[str, object] = {}
    found["itself"] = [found]
    return found


def saved(content: object, path: Path, *, protocol: int = 2, legacy: bool = False) -> Path:
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    return path


def answers_alike(path: Path, name: str | None = None, seed: int = 0) -> bool:
    """Whether a file loads without a flag into the network that it was made from."""
    opened = intake.open_weights(path, name=name)
    (fit, *_) = candidates(opened, TeacherSpec(str(path)))
    teacher = intake.assemble(opened, fit.name, K, SHAPE, "none")
    x = torch.rand(3, *SHAPE)
    with torch.no_grad():
        return fit.name == ARCH and torch.equal(teacher.here.eval()(x), network(seed)(x))


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_network_is_found_wherever_it_lies(name: str, tmp_path: Path) -> None:
    assert answers_alike(saved(CONTAINERS[name](), tmp_path / "m.pt"))


@pytest.mark.parametrize("name", BESIDES)
def test_what_lies_beside_the_weights_is_stood_in_for(name: str, tmp_path: Path) -> None:
    content = {"state_dict": state(), "beside": {"deep": [BESIDES[name]()]}, "top": BESIDES[name]()}
    assert answers_alike(saved(content, tmp_path / "m.pt"))


def test_every_container_and_protocol_is_read_alike(tmp_path: Path) -> None:
    content = {"net": state(), **{name: make() for name, make in BESIDES.items()}}
    for protocol in (2, 3, 4, 5):
        for legacy in (False, True):
            if protocol == 2 or not legacy:
                assert answers_alike(saved(content, tmp_path / "m.pt", protocol=protocol, legacy=legacy)), protocol


def test_what_is_nowhere_to_be_imported_is_stood_in_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Python 3.13's paths, of Windows' and of a script's classes there is nothing here but the name."""
    gone = types.ModuleType("gone_since")
    for name in ("PosixPath", "WindowsPath", "DictConfig", "config"):
        made = type(name, (), {"__module__": "gone_since"})
        setattr(gone, name, made)
    monkeypatch.setitem(sys.modules, "gone_since", gone)
    content = {"model": state(), **{name: getattr(gone, name)() for name in ("PosixPath", "DictConfig", "config")}}
    path = saved(content, tmp_path / "m.pt")
    monkeypatch.delitem(sys.modules, "gone_since")
    assert answers_alike(path)


def test_nothing_is_imported(tmp_path: Path) -> None:
    """A stand-in takes the place of a class whose module runs when it is imported."""
    module = tmp_path / "runs_when_imported.py"
    module.write_text("class Config: pass\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import runs_when_imported  # type: ignore[import-not-found]

        saved({"model": state(), "config": runs_when_imported.Config()}, tmp_path / "m.pt")
        module.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
        assert answers_alike(tmp_path / "m.pt")
    finally:
        sys.path.remove(str(tmp_path))
    assert not (tmp_path / "ran").exists()


TWO = {"model": state(), "model_ema": state(1), "epoch": 3}


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (("model", "model_ema"), "model"),
        (("state_dict_ema", "state_dict"), "state_dict"),
        (("params_ema", "params"), "params"),
        (("net_g", "net_g_ema"), "net_g"),
        (("ema", "model"), "model"),
    ],
)
def test_of_two_the_plain_one_is_taken_and_said(names: tuple[str, str], taken: str, tmp_path: Path) -> None:
    content = {name: state(int(name != taken)) for name in names}
    path = saved(content, tmp_path / "m.pt")
    other = next(name for name in names if name != taken)
    said = intake.open_weights(path).taken
    assert said.startswith(f"weights {taken}; the file also holds {other} (")
    assert said.endswith(f"--weights {other} chooses it")
    assert answers_alike(path)
    assert answers_alike(path, other, seed=1)


@pytest.mark.parametrize("names", [("student", "teacher"), ("0", "1"), ("discriminator", "generator")])
def test_where_no_name_is_the_plain_one_it_is_asked(names: tuple[str, str], tmp_path: Path) -> None:
    path = saved({name: state(i) for i, name in enumerate(names)}, tmp_path / "m.pt")
    flat = saved(under(names[0], state()) | under(names[1], state(1)), tmp_path / "flat.pt")
    with pytest.raises(UsageError, match=f"several networks: {names[0]} .*{names[1]} .*--weights {names[0]}"):
        intake.open_weights(path)
    with pytest.raises(UsageError, match=f"several networks: {names[0]} .*{names[1]} .*--weights {names[0]}"):
        candidates(intake.open_weights(flat), TeacherSpec("flat.pt", architecture=ARCH))
    for one in (path, flat):
        assert answers_alike(one, names[1], seed=1)
        with pytest.raises(UsageError, match=r"there is none in .*; it holds"):
            intake.open_weights(one, name="pupil")


def test_an_ensemble_is_no_network_with_its_average(tmp_path: Path) -> None:
    path = saved(under("net", state()) | under("net2", state(1)), tmp_path / "m.pt")
    with pytest.raises(UsageError, match="several networks"):
        candidates(intake.open_weights(path), TeacherSpec(str(path)))


def test_the_command_says_which_weights_were_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(TWO, tmp_path / "m.pt")
    code, out, _ = call(capsys, "inspect", str(path))
    assert code == 0
    assert "weights        model; the file also holds model_ema (14 tensors); --weights model_ema chooses it" in out
    code, out, _ = call(capsys, "inspect", str(path), "--weights", "model_ema")
    assert code == 0
    assert "weights        model_ema, as --weights says; 14 other tensors are left" in out


def big(name: str = RESNET, shape: networks.Shape = (3, 32, 32)) -> Tensors:
    return weightless(name, 10, shape).state_dict()


MEAN, STD = torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.2, 0.2, 0.3])[:, None, None]


def mmpretrain() -> Tensors:
    named = {(f"head.{n}" if n.startswith("fc.") else f"backbone.{n}"): t for n, t in big().items()}
    return named | {"data_preprocessor.mean": 255 * MEAN, "data_preprocessor.std": 255 * STD}


def madry() -> Tensors:
    held = under("model", big()) | {"normalizer.new_mean": MEAN[None], "normalizer.new_std": STD[None]}
    held |= under("attacker", under("model", big()))
    held |= {"attacker.normalize.new_mean": MEAN[None], "attacker.normalize.new_std": STD[None]}
    return under("module", held)


def last_beside(name: str) -> Tensors:
    """Return a body under a name of its own, and its last layer beside it under any."""
    return {n.replace("fc", name) if n.startswith("fc.") else f"backbone.{n}": t for n, t in big().items()}


def before(name: str, old: str, new: str, shape: networks.Shape = (3, 32, 32)) -> Tensors:
    import re

    return {re.sub(new, old, key): t for key, t in big(name, shape).items()}


@pytest.mark.parametrize(
    ("name", "given", "normalize"),
    [
        (RESNET, mmpretrain, "0.4,0.5,0.6/0.2,0.2,0.3"),
        (RESNET, madry, "0.4,0.5,0.6/0.2,0.2,0.3"),
        (RESNET, lambda: {n.replace("backbone.fc", "fc"): t for n, t in under("backbone", big()).items()}, None),
        (RESNET, lambda: last_beside("classifier.1"), None),
        (RESNET, lambda: under("module", last_beside("linear")), None),
        (RESNET, lambda: under("module.encoder", big()) | {"module.criterion.weight": torch.ones(10)}, None),
        (
            "torchvision:densenet121",
            lambda: before("torchvision:densenet121", r"\1.\2", r"(denselayer\d+\.(?:norm|conv))([12])"),
            None,
        ),
        ("torchvision:vit_b_16", lambda: before("torchvision:vit_b_16", "mlp.linear_1", r"mlp\.0"), None),
        ("torchvision:vgg11", lambda: before("torchvision:vgg11", "features.module.", r"features\."), None),
    ],
)
def test_names_of_frameworks_and_of_old_versions_are_known(
    name: str, given: Callable[[], Tensors], normalize: str | None
) -> None:
    if name.endswith("vit_b_16"):
        old = before(name, "mlp.linear_1", r"mlp\.0")
        tensors = {n.replace("mlp.3", "mlp.linear_2"): t for n, t in old.items()}
    else:
        tensors = given()
    first = guess(tensors).candidates[0]
    assert (first.name, first.classes, first.normalize) == (name, 10, normalize)
    wanted = big(name, (3, first.size or 32, first.size or 32)).keys()
    counted = {n for n in wanted if not n.endswith("num_batches_tracked")}
    assert counted <= spelled(tensors, wanted).tensors.keys()


def test_what_is_left_over_is_counted_and_named() -> None:
    first = guess(big() | {"criterion.weight": torch.ones(10)}).candidates[0]
    assert first.left_over == f"{len(big())} of {len(big()) + 1} tensors are {RESNET}'s; left over: criterion.weight"
    assert guess(big()).candidates[0].left_over == ""


@pytest.mark.parametrize(
    "name", ["temperature", "logit_scale", "head2.weight", "aux.fc.weight", "calibrator.T", "fc2.bias", "mean", "std"]
)
def test_what_may_change_answers_is_refused_by_name_and_not_by_advice_that_was_followed(
    name: str, tmp_path: Path
) -> None:
    more = {name: torch.ones(1)}
    path = saved(state() | more, tmp_path / "m.pt")
    held = intake.open_weights(path)
    with pytest.raises(RefusedInput, match=f"14 of 15 tensors are {ARCH}'s; left over: {name}") as refusal:
        intake.assemble(held, ARCH, K, SHAPE, "none")
    assert "--arch" not in str(refusal.value).replace(f"--arch {ARCH}", "")
    wrapped = saved(under("model", state()) | more, tmp_path / "wrapped.pt")
    with pytest.raises(UsageError, match=f"left over: {name}; --weights model leaves it out"):
        candidates(intake.open_weights(wrapped), TeacherSpec("m", architecture=ARCH))
    assert answers_alike(wrapped, "model")


def test_a_missing_layer_is_named() -> None:
    without = {n: t for n, t in big().items() if not n.startswith("fc.")}
    found = guess(without)
    assert found.candidates == ()
    assert "missing (first: fc.weight)" in found.told


def test_weights_of_a_strangers_class_are_refused_by_its_name(tmp_path: Path) -> None:
    class_of = type("Wrapped", (Tensor,), {"__module__": __name__})
    globals()["Wrapped"] = class_of
    held = {name: t.as_subclass(class_of) for name, t in state().items()}
    with pytest.raises(RefusedInput, match="Wrapped"):
        intake.open_weights(saved({"model": held}, tmp_path / "m.pt"))


def test_a_whole_module_is_not_passed_over_for_what_lies_beside_it(tmp_path: Path) -> None:
    content = {"model": network(), "optimizer": by_name(optimizer()), "centres": {"loss": torch.ones(3, 3)}}
    with pytest.raises(RefusedInput, match=r"would run teachers\.networks\.ConvNet"):
        intake.open_weights(saved(content, tmp_path / "m.pt"))


def test_views_and_shared_storages_are_what_they_were(tmp_path: Path) -> None:
    flat = torch.arange(24.0)
    held = {"a": flat[4:16].view(3, 4), "b": flat.view(4, 6).t(), "c": flat[:0].view(0, 3), "d": flat.half()}
    for legacy in (False, True):
        opened = intake.open_weights(saved({"w": held}, tmp_path / "m.pt", legacy=legacy))
        assert opened.tensors.keys() == held.keys()
        assert all(torch.equal(opened.tensors[name], t) for name, t in held.items())


def test_an_audits_command_takes_the_same_weights(tmp_path: Path) -> None:
    path = saved(TWO, tmp_path / "m.pt")
    found = inspect(Options(teacher=str(path), weights="model_ema", cache=tmp_path / "cache"))
    assert (found.architecture, found.weights[:17]) == (ARCH, "weights model_ema")


HOSTILE = hostile_tensors.cases()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_checkpoints_are_refused_with_a_sentence_and_nothing_runs(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    grown: list[int],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = HOSTILE[name](tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(RefusedInput) as refusal:
        intake.open_weights(path)
    said = str(refusal.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert len(said) > len(str(path)) + 20
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", hostile_tensors.CALLED)
def test_the_refusal_names_what_a_file_would_run(name: str, tmp_path: Path) -> None:
    module, function = hostile_tensors.CALLED[name]
    with pytest.raises(RefusedInput, match=rf"would run .*{module}\.{function}"):
        intake.open_weights(HOSTILE[f"called: {name} beside the weights"](tmp_path))


def test_the_corpus_is_large() -> None:
    assert len(HOSTILE) >= 80
    assert len(CONTAINERS) + len(BESIDES) >= 60


def test_keys_that_are_no_names_hide_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({0: "a", ("x", 1): None, "model": state()}, path)
    assert intake.open_weights(path).tensors.keys() == state().keys()


def test_what_no_flag_mends_says_how_to_save_it(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"model": {name: t.numpy() for name, t in state().items()}}, path)
    with pytest.raises(RefusedInput, match=r"holds NumPy arrays and no tensors; save each as torch.from_numpy"):
        intake.open_weights(path)
    torch.save({"_flat_param": torch.ones(9), "layer1._fsdp_wrapped_module._flat_param": torch.ones(9)}, path)
    with pytest.raises(RefusedInput, match="FSDP's flattened parameters; save it again with full_state_dict=True"):
        intake.open_weights(path)
