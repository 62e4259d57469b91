"""Networks that the user's own code makes: `--arch module:factory`, trusted on the command line alone."""

import json
import pickle
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import call
from fake_server import FakeServer
from hostile_configs import card
from safetensors.torch import save_file
from small_teachers import linear
from torch import Tensor

from audit import pipeline
from audit.finished.repeat import repeat
from audit.plan.options import Options
from reports.record import load as load_record
from reports.record import save
from teachers import intake, networks
from teachers.data.datasets import load
from teachers.errors import AuditError, RefusedInput, UsageError
from teachers.intake import factories, jail
from teachers.intake.weights import Weights
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import fingerprint, open_file
from teachers.task import Task

SHAPE, K = (1, 8, 8), 10
EXAMPLE = "mypackage.models:make_net"
MODELS = """
import functools
from torch import nn
from .blocks import head

MARK = "mark.txt"


def make_net(num_classes=10):
    return nn.Sequential(nn.Flatten(), head(num_classes))


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))

    @classmethod
    def made(cls):
        return cls()


def keywords(**more):
    return make_net(**more)


def without(**more):
    if more:
        raise TypeError(f"got an unexpected keyword argument {next(iter(more))!r}")
    return Net()


part = functools.partial(make_net, num_classes=10)
net, Config, number = Net(), dict, 3


def raises():
    raise ValueError("of no use\\nat all")


def leaves():
    raise SystemExit(0)


def fails_with_percent():
    raise KeyError("%s {}")


def needs_depth(depth, num_classes):
    return make_net(num_classes)


def seven():
    return make_net(7)


def short(num_classes):
    class Short(Net):
        def forward(self, x):
            return super().forward(x)[:, :7]
    return Short()


def scalar():
    class Scalar(Net):
        def forward(self, x):
            return super().forward(x).sum()
    return Scalar()


def text():
    class Text(Net):
        def forward(self, x):
            return "an answer"
    return Text()


def leaves_later():
    class Leaving(Net):
        def forward(self, x):
            raise SystemExit(3)
    return Leaving()


def two_layers():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Linear(10, 10))


def no_layers():
    return nn.Flatten()


def gray_only():
    class Gray(Net):
        def forward(self, x):
            assert x.shape[1] == 3, "wants colours"
            return super().forward(x)
    return Gray()


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))


def double():
    return Net().double()


def spins():
    while True:
        pass


def ends():
    import os
    os._exit(0)
"""
BLOCKS = """
from torch import nn


def head(classes):
    return nn.Linear(64, classes)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task) -> Iterator[Path]:
    """Return a working directory with a package of a user's and a checkpoint of the digits."""
    folder = tmp_path / "home"
    (folder / "mypackage").mkdir(parents=True)
    (folder / "mypackage" / "models.py").write_text(MODELS)
    (folder / "mypackage" / "blocks.py").write_text(BLOCKS)
    torch.save(linear(task).state_dict(), folder / "weights.pt")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield folder
    forget()


@pytest.fixture(scope="module")
def task(kept: Path) -> Task:
    return load("digits", kept)


def held(factory: str = EXAMPLE) -> Weights:
    return factories.open_for(Path("weights.pt"), factory, trust=True, name=None)


def made(factory: str = EXAMPLE) -> intake.Teacher:
    return intake.assemble(held(factory), "", K, SHAPE, "none")


def forget() -> None:
    """Drop the user's modules, as if a new process began."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        del sys.modules[name]


def mark(module: str = "mypackage/models.py") -> None:
    """Let a module leave a mark when it is imported."""
    path = Path(module)
    path.write_text(f"open({str(Path.cwd() / 'mark.txt')!r}, 'w').close()\n{path.read_text()}")


@pytest.mark.parametrize("name", ["make_net", "Net", "Net.made", "keywords", "without", "part", "lazy", "double"])
def test_a_class_or_a_function_makes_the_network(home: Path, task: Task, name: str) -> None:
    teacher = made(f"mypackage.models:{name}")
    x = torch.from_numpy(task.test.images).float() / 255
    assert torch.allclose(teacher.here(x), linear(task)(x), atol=1e-5)
    assert (teacher.architecture, teacher.program, teacher.parameters) == (f"mypackage.models:{name}", False, 650)


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        ("nothing:make", r"no module nothing: the working directory .*/home and the installed packages were searched"),
        ("mypackage.nothing:make", r"no module mypackage.nothing: the working directory .*/home"),
        ("mypackage.models.net:make", r"no module mypackage.models.net: "),
        ("models:make_net", r"no module models: .*/home"),
        ("plain.py:make", r"no module plain.py: .*; give plain, without .py"),
        ("mypackage.models:mak_net", r"mypackage.models has no mak_net \(.*models.py\); did you mean make_net\?"),
        ("mypackage.models:Net.nothing", r"mypackage.models has no nothing"),
        ("mypackage.models:number", r"mypackage.models:number is an int; give a class or a function"),
        ("mypackage.models:net", r"mypackage.models:net is a Net; give a class or a function"),
        ("mypackage.models:nn", r"mypackage.models:nn is a module; give a class or a function"),
        ("mypackage.models:raises", r"mypackage.models:raises makes no network \(ValueError: of no use\); repair it"),
        ("mypackage.models:leaves", r"makes no network \(SystemExit: 0\)"),
        ("mypackage.models:fails_with_percent", r"makes no network \(KeyError: '%s \{\}'\)"),
        ("mypackage.models:needs_depth", r"cannot be called \(missing a required argument: 'depth'\); .*num_classes"),
        ("mypackage.models:Config", r"mypackage.models:Config returns a dict; it must return a torch.nn.Module"),
        ("broken:make", r"broken does not import \(SyntaxError: .*line 1\)\)"),
        ("wanting:make", r"wanting does not import \(ModuleNotFoundError: No module named 'a_library_not_here'\)"),
        ("leaving:make", r"leaving does not import \(SystemExit: 1\)"),
        ("random:make", r"home/random.py cannot be imported: another module is called random \(.*random.py\)"),
        ("teachers.mine:make", r"home/teachers cannot be imported: another module is called teachers"),
    ],
)
def test_code_that_makes_no_network_gets_a_sentence(home: Path, factory: str, sentence: str) -> None:
    written = {
        "broken.py": "def",
        "wanting.py": "import a_library_not_here",
        "leaving.py": "exit(1)",
        "random.py": "def make(): pass",
        "plain.py": "def make(): pass",
        "teachers/mine.py": "def make(): pass",
    }
    (home / "teachers").mkdir()
    for name, text in written.items():
        (home / name).write_text(text)
    with pytest.raises(UsageError, match=sentence) as e:
        made(factory)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "seven",
            r"does not fit --arch mypackage.models:seven: 1.weight has shape \(10, 64\), not \(7, 64\) \(2 differ",
        ),
        ("two_layers", r"does not fit --arch mypackage.models:two_layers: keys 2 missing \(first: 2.bias\)$"),
        (
            "no_layers",
            r"weights.pt is more than --arch mypackage.models:no_layers: 0 of 2 .* left over: 1.bias, 1.weight",
        ),
        ("short", r"with --arch mypackage.models:short answers \(3, 7\) to 3 images but the data has 10 classes"),
        ("scalar", r"with --arch mypackage.models:scalar answers \(\) to 3 images but the data has 10 classes"),
        ("text", r"with --arch mypackage.models:text answers nothing to 3 images"),
        ("gray_only", r"does not answer images of shape \(1, 8, 8\) \(wants colours\)"),
        ("leaves_later", r"does not answer images of shape \(1, 8, 8\) \(3\)"),
        ("ends", r"weights.pt with --arch mypackage.models:ends made its reader fail"),
    ],
)
def test_a_network_that_does_not_fit_gets_a_sentence(home: Path, name: str, sentence: str) -> None:
    with pytest.raises(RefusedInput, match=sentence):
        made(f"mypackage.models:{name}")


def test_code_that_does_not_end_is_ended(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = jail.limits
    monkeypatch.setattr(
        sys.modules["teachers.intake.assemble"], "limits", lambda *a, **k: replace(usual(*a, **k), seconds=2)
    )
    with pytest.raises(RefusedInput, match=r"with --arch mypackage.models:spins took more than 2 seconds"):
        made("mypackage.models:spins")


@pytest.mark.parametrize("command", ["run", "plan", "cmi", "inspect"])
def test_without_consent_nothing_is_imported(home: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    mark()
    teacher = ["weights.pt"] if command == "inspect" else ["--teacher", "weights.pt"]
    code, _, err = call(capsys, command, *teacher, "--data", "digits", "--arch", EXAMPLE, "--cache", "cache")
    assert (code, err.count("\n")) == (2, 1)
    assert re.search(r"mypackage.models:make_net is code that would run .*give --trust-model-code$", err.strip())
    assert not (home / "mark.txt").exists()
    assert not (home / "mypackage" / "__pycache__").exists()


@pytest.mark.parametrize(
    "factory", ["mypackage/models.py:make_net", "my-package:make", "./net.py:make", "a b:c", "1:a"]
)
def test_what_names_no_code_is_refused_before_anything_is_opened(home: Path, factory: str) -> None:
    with pytest.raises(UsageError, match="names no code; give a module and a name in it, such as --arch mypackage"):
        open_file(TeacherSpec("weights.pt", architecture=factory, trust=True))


@pytest.mark.parametrize(
    "name", ["timm:resnet18", "torchvision:resnet18", "cnn-4-8", "hf-hub:a/b", "https://a/b", None]
)
def test_other_architectures_are_no_code(name: str | None) -> None:
    assert not factories.is_factory(name)


def test_a_teacher_with_a_network_of_its_own_takes_no_code(
    home: Path, task: Task, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    mark()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch: it will go
        torch.jit.save(torch.jit.trace(linear(task), torch.rand(1, *SHAPE)), "traced.pt")
    described = {"distill_audit": card(classes=[str(i) for i in range(10)], shape=SHAPE, mean=[0.5], std=[0.5])}
    save_file(linear(task).state_dict(), "own.safetensors", described)
    asked = {
        "traced.pt": (4, "--trust-model-code without --arch runs it"),
        "own.safetensors": (2, "brings its own architecture; leave --arch"),
        "demo": (2, "demo is built in; leave it out"),
        server.url: (2, "leave it out"),
    }
    for teacher, (wanted, sentence) in asked.items():
        options = ["--data", "digits", "--arch", EXAMPLE, "--trust-model-code", "--cache", "cache"]
        code, _, err = call(capsys, "plan", "--teacher", teacher, *options)
        assert (code, sentence in err) == (wanted, True), (teacher, err)
    assert not (home / "mark.txt").exists()


class Harm:
    def __reduce__(self) -> tuple[object, ...]:
        return open, ("harm.txt", "w")


def test_trust_in_code_is_no_trust_in_the_file(home: Path, task: Task) -> None:
    with open("weights.pt", "wb") as f:
        pickle.dump({"model": linear(task).state_dict(), "extra": Harm()}, f)
    with pytest.raises(RefusedInput, match="without --arch runs it"):
        held()
    assert not (home / "harm.txt").exists()


def test_no_card_configuration_or_record_names_code(
    home: Path, finished: Path, kept: Path, task: Task, tmp_path: Path
) -> None:
    mark()
    forged = {**json.loads(card()), "architecture": EXAMPLE}
    save_file(linear(task).state_dict(), "card.safetensors", {"distill_audit": json.dumps(forged)})
    with pytest.raises(RefusedInput, match="not the name of an architecture"):
        intake.open_weights(Path("card.safetensors"), trust=True)
    (home / "folder").mkdir()
    save_file(linear(task).state_dict(), "folder/model.safetensors")
    config = {"model_type": "timm_wrapper", "architecture": EXAMPLE, "num_classes": 10, "architectures": [EXAMPLE]}
    (home / "folder" / "config.json").write_text(json.dumps(config))
    with pytest.raises(AuditError):
        intake.assemble(intake.open_weights(Path("folder"), trust=True), "", K, SHAPE, "none")
    folder = Path(shutil.copytree(finished, tmp_path / "record"))
    record = load_record(folder)
    settings = replace(record.settings, arch=EXAMPLE, teacher="weights.pt")
    save(record.model_copy(update={"settings": settings}), folder / "record.json")
    with pytest.raises(UsageError, match=rf"a record runs no code by itself; if it is yours, give --arch {EXAMPLE}"):
        list(repeat(folder, 1, cache=kept, trust=True))
    with pytest.raises(UsageError, match="--arch other:net: the record names mypackage"):
        list(repeat(folder, 1, cache=kept, trust=True, architecture="other:net"))
    with pytest.raises(UsageError, match="unknown architecture"):
        networks.build(EXAMPLE, K, SHAPE)  # of students, and of `audit teach`
    assert not (home / "mark.txt").exists()


def rewritten(path: str, old: str, new: str) -> Callable[[], None]:
    def change() -> None:
        file = Path(path)
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return change


SCALED = """
import json
from pathlib import Path

import beside


class Scaled(Net):
    def forward(self, x):
        import later
        return super().forward(x) * beside.scale * later.scale


def scaled():
    made = Scaled()
    made.drop = nn.Dropout(json.loads(Path(__file__).with_name("layers.json").read_text()))
    return made
"""


def added() -> None:
    Path("mypackage/more.py").write_text("A = 1")


CHANGES: Mapping[str, Callable[[], None]] = {
    "the factory": rewritten("mypackage/models.py", "nn.Flatten(), head", "nn.Tanh(), nn.Flatten(), head"),
    "a module that it imports": rewritten("mypackage/blocks.py", "nn.Linear(64", "nn.Linear(8 * 8"),
    "a module beside it": rewritten("beside.py", "1.0", "2.0"),
    "a module imported when it answers": rewritten("later.py", "1.0", "2.0"),
    "a file of its package that is not imported yet": added,
    "a setting that the layers show": rewritten("mypackage/layers.json", "0.1", "0.2"),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_changed_code_is_another_teacher(home: Path, changed: str) -> None:
    (home / "beside.py").write_text("scale = 1.0\n")
    (home / "later.py").write_text("scale = 1.0\n")
    (home / "mypackage" / "layers.json").write_text("0.1")
    models = home / "mypackage" / "models.py"
    models.write_text(models.read_text() + SCALED)
    before, again = (_fingerprint_anew("mypackage.models:scaled") for _ in range(2))
    CHANGES[changed]()
    assert before == again
    assert _fingerprint_anew("mypackage.models:scaled") != before


def _fingerprint_anew(factory: str) -> str:
    for name in ("beside", "later"):
        sys.modules.pop(name, None)
    forget()
    return fingerprint(made(factory))


def test_the_same_code_and_tensors_are_the_same_teacher_wherever_they_lie(
    home: Path, task: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = _fingerprint_anew(EXAMPLE)
    shutil.copytree(home, tmp_path / "other")
    monkeypatch.chdir(tmp_path / "other")
    save_file(linear(task).state_dict(), "weights.pt")
    sys.path.remove(str(home))
    assert _fingerprint_anew(EXAMPLE) == before


def test_other_weights_of_one_file_are_another_teacher(home: Path, task: Task) -> None:
    plain = linear(task).state_dict()
    torch.save({"model": plain, "model_ema": {name: 2 * t for name, t in plain.items()}}, "weights.pt")
    names = ("model", "model_ema")
    found = [factories.open_for(Path("weights.pt"), EXAMPLE, trust=True, name=name) for name in names]
    assert len({fingerprint(intake.assemble(w, "", K, SHAPE, "none")) for w in found}) == 2


def test_what_chance_makes_beside_the_tensors_is_the_same_each_time(home: Path) -> None:
    models = home / "mypackage" / "models.py"
    body = "import torch\ndef chance():\n    net = Net()\n    net.shift = torch.rand(10)\n"
    body += "    net.register_forward_hook(lambda m, i, y: y + m.shift)\n    return net\n"
    models.write_text(models.read_text() + body)

    def shift() -> Tensor:
        forget()
        torch.seed()
        found: Tensor = made("mypackage.models:chance").here(torch.zeros(1, *SHAPE))
        return found

    assert torch.equal(shift(), shift())


def test_prefixes_of_wrappers_are_left_out_and_channels_are_read_off(home: Path) -> None:
    from torch import nn

    (home / "mypackage" / "conv.py").write_text(
        "from torch import nn\n"
        "def net(num_classes): return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, num_classes))\n"
    )
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 10))
    torch.save({f"module.{name}": t for name, t in network.state_dict().items()}, "weights.pt")
    weights = held("mypackage.conv:net")
    assert weights.channels == 3
    x = torch.rand(4, 3, 8, 8)
    assert torch.allclose(intake.assemble(weights, "", K, (3, 8, 8), "none").here(x), network(x), atol=1e-5)


@pytest.fixture
def options(cold: Callable[[str], Path]) -> list[str]:
    """Return the options that README and docs/formats.md show."""
    return ["--data", "digits", "--arch", EXAMPLE, "--trust-model-code", "--cache", str(cold("cache"))]


AUDIT = ("run", "--teacher", "weights.pt", "--effort", "smoke", "--attacks", "soft-kd", "--jobs", "2", "--out", "out")


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("more", [[], ["--isolate"]])
def test_an_audit_runs_with_a_network_of_the_users_own(
    home: Path, options: list[str], capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    code, _, err = call(capsys, *AUDIT, *options, *more)
    assert code in (1, 3), err
    record = load_record(home / "out")
    assert (record.teacher.architecture, record.settings.arch) == (EXAMPLE, EXAMPLE)
    assert record.settings.isolate
    assert "mypackage" not in sys.modules, "the user's code must not run where the audit is judged"
    assert not (home / "mypackage" / "__pycache__").exists()
    found = list(repeat(home / "out", 2, cache=Path(options[-1]), trust=True, architecture=EXAMPLE))
    assert all(one.agrees for one in found)


@pytest.mark.usefixtures("tiny")
def test_the_commands_of_one_teacher_take_code(
    home: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "inspect", "weights.pt", *options, "--json")
    assert (code, json.loads(out)["architecture"]) == (0, EXAMPLE), err
    code, _, err = call(capsys, "cmi", "--teacher", "weights.pt", *options, "--out", "cmi")
    assert code == 0, err
    assert "mypackage" not in sys.modules


@pytest.mark.usefixtures("tiny")
def test_what_is_known_is_told_where_the_normalisation_stays_open(
    home: Path, options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def one(spec: TeacherSpec, *_: object) -> None:
        raise UsageError(f"{spec.teacher} is as good with none as with half; give --normalize")

    monkeypatch.setattr("audit.inspection.inspection.one", one)
    code, out, _ = call(capsys, "inspect", "weights.pt", *options)
    assert code == 0
    assert "undecided      it is as good with none as with half; give --normalize" in out
    assert "classes        10" in out
    assert "1 channel, 8 × 8 pixels" in out


def test_the_example_is_in_readme_and_docs() -> None:
    root = Path(__file__).resolve().parent.parent
    for page in ("README.md", "docs/formats.md"):
        assert f"--arch {EXAMPLE} --trust-model-code" in (root / page).read_text(encoding="utf-8"), page


def test_a_request_of_python_takes_code_alike(home: Path, kept: Path) -> None:
    with pytest.raises(UsageError, match="give --trust-model-code"):
        pipeline.run(Options(teacher="weights.pt", data="digits", arch=EXAMPLE, effort="smoke", cache=kept, quiet=True))
