"""What runs on a card, run on one that is not there: nothing mixes devices, and what makes the CPU wait is known.

Not run here: bfloat16, since autocast goes by the device that torch's C++ sees (`META` in `fake_card.py`), and cuDNN,
none of whose operations a CPU has.
"""

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from fake_card import Wait, card, values
from torch import Tensor, nn

from attacks import registry
from attacks.base import Attack, Technique
from attacks.contract import CLASSES, SHAPE, tiny_lab
from attacks.data_free.dfme import DFME
from attacks.logits.soft_kd import SoftKD
from audit.cache.store import Cache
from audit.execution.measure import measure
from audit.execution.metering import CachedTeacher, MeteredOracle
from audit.execution.worker import Job, train
from audit.plan.cells import ENGINE, Cell
from teachers import guards, kinds, methods
from teachers.data.stored import StoredImages
from teachers.networks import PreprocessedNetwork
from teachers.oracle import Box
from teachers.storage.entries import Entries
from teachers.storage.mapped import AnswerFiles
from teachers.storage.store import AnswerStore
from teachers.surface import FULL, Surface
from teachers.synthetic import LabelMemory
from teachers.targets.target import ALTERED
from teachers.task import Augment, Pool, Task
from teachers.training import JoinedStream, Recipe, StoredStream, Student, build_student, predict
from teachers.views import KINDS, Viewer, ViewSet

ASK = "teachers/oracle.py:Oracle"
GAMES = ("dfme", "maze", "disguide", "megex", "dfms", "dfms-hl", "ideal")  # they ask about images that they make


class Known(NamedTuple):
    """A wait in the loop over training steps, why it is there, and whose it is: by default, or with another setting."""

    wait: Wait
    why: str
    who: tuple[str, ...] = ()
    set_so: tuple[str, ...] = ()


KNOWN = (
    Known(Wait(f"{ASK}._charged", "read"), "an image out of range must not be asked about, nor charged", GAMES),
    Known(Wait(f"{ASK}.__call__", "down"), "the images go to the process that holds the teacher", GAMES),
    Known(Wait(f"{ASK}.estimate", "down"), "so do those that estimate a gradient", ("dfme", "maze")),
    Known(Wait("attacks/data_free/ideal.py:Dreams.next", "up"), "the round has waited for these answers", ("ideal",)),
    Known(Wait("attacks/data_free/ideal.py:Dreams._dream", "up"), "each round builds a generator", ("ideal",)),
    Known(
        Wait("attacks/data_free/ideal.py:Dreams._dream", "read"),
        "with `best`, the images with the lowest cost are kept, as in the authors' code",
        set_so=("ideal",),
    ),
    Known(
        Wait("attacks/surrogate/knockoff_adaptive.py:Asking._reward", "down"),
        "the next images depend on the clone's answers, and NumPy chooses them",
        ("knockoff-adaptive",),
    ),
    Known(
        Wait("attacks/surrogate/knockoff_adaptive.py:Asking.next", "up"),
        "the same step waits for the clone's answers",
        ("knockoff-adaptive",),
    ),
    Known(
        Wait("attacks/adaptive/adaptive.py:Adaptive.distilled", "read"),
        "rows that tell nothing are left out of a loss that compares the rows of a batch",
        ("adaptive",),
    ),
    Known(Wait("teachers/surface.py:Answers.__getitem__", "read"), "the same rows of the answers", ("adaptive",)),
    Known(
        Wait("attacks/controls/dist_ls.py:DistLS.loss", "read"),
        "rows without a label are left out of a loss that compares the rows of a batch",
        ("dist-ls",),
    ),
    Known(Wait("teachers/training.py:_Run._learn", "read"), "the way back through these rows", ("adaptive", "dist-ls")),
    Known(
        Wait("teachers/methods/centroids.py:Centroids.take", "up"),
        "once an epoch, all training images pass through the network",
        ("mcmi",),
        set_so=("cmim",),
    ),
)


def waits(name: str) -> set[Wait]:
    """Return the known waits of a technique, or of a way to teach, with its default setting."""
    return {known.wait for known in KNOWN if name in known.who}


def more_waits(name: str) -> set[Wait]:
    """Return those of its other settings."""
    return {known.wait for known in KNOWN if name in known.set_so}


# Fields of techniques that say how much they do, and how little is enough here.
FEW = {"queries": 32, "extra": 32, "trial": 4, "rounds": 2, "fresh": 2, "replay": 2, "groups": 4, "generator_steps": 2}
FEW |= {"passes": 1, "longer": 1, "patience": 1, "gan_epochs": 0.4, "settling": 0.4}
TECHNIQUES = [*registry.attacks(), *registry.CONTROLS]


def trained(technique: Technique) -> tuple[Student, set[Wait]]:
    """Run a technique on the card, with few steps and queries; return its student, and what made the CPU wait."""
    few = {f.name: min(FEW[f.name], getattr(technique, f.name)) for f in fields(technique) if f.name in FEW}
    original = getattr(technique, "holds", "original") == "original"
    lab = tiny_lab(Surface(getattr(technique, "needs", "probs")), 0, original=original)
    lab.device, lab.recipe = "cuda", replace(lab.recipe, steps=2)
    ask = lab.oracle.ask
    lab.oracle.ask = lab.oracle.estimate_by = lambda x: ask(x.cpu())  # as a worker does
    with card() as entered:
        student = replace(technique, **few).attempt(lab)
    for tensor in chain(student.network.parameters(), student.network.buffers()):
        assert values(tensor).isfinite().all()
    return student, entered.waits


@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_technique_runs_on_a_card_and_waits_only_where_known(name: str) -> None:
    assert trained(registry.runnable(name)())[1] == waits(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", TECHNIQUES)
def test_so_do_its_other_settings(name: str) -> None:
    technique = registry.runnable(name)
    others = [*technique.grid()[1:], *getattr(technique, "presets", dict)().values()]
    found = {wait for setting in others for wait in trained(setting)[1]}
    assert found - waits(name) == more_waits(name)


@pytest.fixture(scope="module")
def task() -> Task:
    labels = np.arange(24) % CLASSES
    images = np.random.default_rng(0).integers(0, 256, (24, *SHAPE), dtype=np.uint8)
    pool = Pool(images, labels, Augment(pad=1, flip=True))
    return Task("tiny", tuple("abc"), pool, pool, pool)


RECIPE = Recipe("strided-4-4", 2, batch=8, views=2)
UPDATES = {"mcmi": ("batch", "running", "frozen"), "cmim": ("epoch", "running")}
SETTINGS = [
    *((name, {"update": update}) for name, updates in UPDATES.items() for update in updates),
    ("apgp", {"form": "published"}),
]


def taught(name: str, settings: dict[str, str], task: Task) -> set[Wait]:
    """Teach on the card, and measure; return what made the CPU wait."""
    with card() as entered:
        recipe = methods.TeacherRecipe(methods.method(name, settings), RECIPE)
        network = methods.teach(recipe, task, device="cuda").network
        assert values(network(torch.rand(5, *SHAPE, device="cuda"))).shape == (5, CLASSES)
    return entered.waits


@pytest.mark.parametrize("name", methods.METHODS)
def test_a_way_to_teach_runs_on_a_card_and_waits_only_where_known(name: str, task: Task) -> None:
    assert taught(name, {}, task) == waits(name)


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=str)
def test_so_do_other_settings_of_a_way_to_teach(name: str, settings: dict[str, str], task: Task) -> None:
    assert taught(name, settings, task) <= waits(name) | more_waits(name)


def test_all_that_wait_are_known_by_name() -> None:
    assert {name for known in KNOWN for name in known.who + known.set_so} <= {*TECHNIQUES, *methods.METHODS}


def pools(task: Task, folder: Path) -> list[Pool]:
    """Return the same images in memory and on disk."""
    np.save(folder / "images.npy", task.train.images)
    return [task.train, replace(task.train, images=StoredImages(folder / "images.npy"))]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_views_are_made_on_a_card(kind: str, task: Task, tmp_path: Path) -> None:
    views = ViewSet(kind, 2)  # type: ignore[arg-type]
    index, view = torch.arange(24).repeat(2), torch.arange(2).repeat_interleave(24)
    expected = Viewer(task.train, views)(index, view)
    for pool in pools(task, tmp_path):
        with card():
            made = Viewer(pool, views, "cuda")(index.to("cuda"), view.to("cuda"))
        torch.testing.assert_close(values(made), expected)


@pytest.mark.parametrize("kind", [*KINDS, "crop+strong"])
def test_a_stream_lies_on_the_card(kind: str, task: Task, tmp_path: Path) -> None:
    for pool in pools(task, tmp_path):
        with card():
            sets = [ViewSet(part, 2) for part in kind.split("+")]  # type: ignore[arg-type]
            parts = [StoredStream(pool, one, batch=8, seed=0, device="cuda") for one in sets]
            batch = (parts[0] if len(parts) == 1 else JoinedStream(parts)).next(0, nn.Identity())
            given = [values(x) for x in vars(batch).values() if x is not None]
            assert values(batch.truth(CLASSES, 0.1)).sum() == pytest.approx(len(batch.labels), rel=1e-5)
        assert len(given) == (6 if kind.endswith("mixup") else 4)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_student(RECIPE, CLASSES, SHAPE).eval()


STEPS = [
    f"{written.partition(':')[0]}:{1 if step.whole else step.high / 2:g}" for written, step in kinds.WRITTEN.items()
]


@pytest.mark.parametrize("surface", [*kinds.WHOLE, *STEPS, f"{kinds.EIGHT}+{STEPS[0]}"])
def test_a_box_answers_from_a_card(surface: str) -> None:
    x = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(0))
    expected = Box(network(), Surface(surface))(x)
    with card():
        answers = Box(network(), Surface(surface), "cuda")(x)
    torch.testing.assert_close((answers.values, answers.gradients), (expected.values, expected.gradients))


@pytest.mark.parametrize("name", ALTERED)
def test_a_synthetic_teacher_answers_from_a_card(name: str, task: Task) -> None:
    x = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(0))
    held = LabelMemory(task.train, 2)
    expected = Box(ALTERED[name](network(), task, held))(x)
    with card():
        answers = Box(ALTERED[name](network().to("cuda"), task, held), device="cuda")(x)
    torch.testing.assert_close(answers.values, expected.values)


@pytest.mark.parametrize("name", [*guards.LEARNED, *STEPS])
def test_a_guard_stands_on_the_card_of_its_network(name: str) -> None:
    def guarded() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = guards.LEARNED[name](CLASSES) if name in guards.LEARNED else guards.SurfaceGuard(name)
        plain = network()
        assert isinstance(plain, PreprocessedNetwork)
        return guards.behind(plain, made)

    x = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(0))
    expected: Tensor = guarded()(x)
    with card():
        shown = guarded().to("cuda")(x.to("cuda"))
    torch.testing.assert_close(values(shown), expected)


def test_images_are_classified_on_a_card(task: Task, tmp_path: Path) -> None:
    expected = predict(network(), task.test)
    for pool in pools(task, tmp_path):
        with card():
            assert (predict(network(), pool, "cuda") == expected).all()


def test_a_student_of_the_card_is_that_of_the_cpu() -> None:
    """What is computed beside the fake tensors is what they stand for."""
    lab = tiny_lab(FULL, 0)
    lab.recipe = replace(lab.recipe, steps=2)
    there, here = trained(SoftKD())[0].network.state_dict(), SoftKD().attempt(lab).network.state_dict()
    for name, weight in here.items():
        torch.testing.assert_close(values(there[name]), weight)


@pytest.mark.parametrize("technique", [SoftKD(), DFME(queries=64)], ids=lambda t: t.name)
def test_a_worker_trains_on_a_card_and_its_student_is_measured_there(technique: Attack, tmp_path: Path) -> None:
    lab, folder = tiny_lab(FULL, 0), tmp_path
    recipe, held = replace(lab.recipe, steps=2), "p" * 64
    cell = Cell(
        engine=ENGINE,
        technique=technique.name,
        version=str(technique.version),
        parameters=technique.parameters,
        recipe=asdict(recipe),
        seed=0,
        pool=held,
        task="t" * 64,
        teacher="f" * 64,
        surface="probs",
        device="cuda",
    )
    job = Job(cell=cell, pool=Cache(folder).pool(lab.pool), surrogate=None, classes=CLASSES)
    with card():
        teacher = CachedTeacher(AnswerStore(folder), Box(network(), FULL, "cuda"))
        door = MeteredOracle(teacher, FULL, {held: lab.pool}, 2_000, AnswerFiles(Entries(folder)))
        result = measure(cell, train(job, door), door, {"validation": lab.pool, "test": lab.pool}, CLASSES)
    assert result.charged == door.charged > 0
    assert not result.diverged


MIXED: dict[str, Callable[[Tensor, Tensor], object]] = {
    "sum": lambda x, rows: x + torch.rand(4, 3),
    "rows of the CPU by indices of the card": lambda x, rows: torch.rand(4, 3)[rows.to("cuda")],
    "write": lambda x, rows: x.index_copy_(0, rows, x),
    "write where a mask says": lambda x, rows: x.masked_scatter(x > 0, torch.rand(12)),
    "chance": lambda x, rows: torch.rand(4, device="cuda", generator=torch.Generator()),
    "NumPy": lambda x, rows: x.numpy(),
    "loss": lambda x, rows: nn.functional.cross_entropy(x, rows % 3),
}


@pytest.mark.parametrize("name", MIXED)
def test_the_card_refuses_what_mixes_devices(name: str) -> None:
    with card(), pytest.raises((RuntimeError, TypeError)):
        MIXED[name](torch.rand(4, 3, device="cuda"), torch.arange(4))


WAITING: dict[str, tuple[str | None, Callable[[Tensor], object]]] = {
    "a number": ("read", lambda x: float(x.sum())),
    "a decision": ("read", lambda x: bool((x > 0).any())),
    "a list": ("read", lambda x: x.tolist()),
    "a mask": ("read", lambda x: x[x > 0.5]),
    "a mask written to": ("read", lambda x: x.index_put_((x > 0.5,), x[:1].expand(int(values(x).gt(0.5).sum())))),
    "a mask set to a number": (None, lambda x: x.index_put_((x > 0.5,), x[0])),
    "counts": ("read", lambda x: x.long().bincount(minlength=2)),
    "values": ("read", lambda x: x.unique()),
    "equality": ("read", lambda x: torch.equal(x, x)),
    "a copy to the CPU": ("down", lambda x: x.cpu()),
    "a copy into the CPU's": ("down", lambda x: torch.zeros(8).copy_(x)),
    "a copy to the card": ("up", lambda x: torch.zeros(8).to("cuda")),
    "a number to the card": ("up", lambda x: torch.tensor(2.0, device="cuda")),
    "rows by indices of the CPU": ("up", lambda x: x[torch.arange(3)]),
    "a copy that is not waited for": (None, lambda x: torch.zeros(8).to("cuda", non_blocking=True)),
    "a factor of the CPU": (None, lambda x: x * torch.tensor(2.0)),
    "arithmetic": (None, lambda x: (x.softmax(0) * 2).topk(2).values.sum()),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_makes_the_cpu_wait_is_noted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, act = WAITING[name]
    with card() as entered:
        act(torch.rand(8, device="cuda"))
        assert not entered.waits  # outside the loop
        monkeypatch.setattr("fake_card.LOOP", act.__code__.co_qualname)
        monkeypatch.setattr("fake_card.ROOT", Path(__file__).parent)
        act(torch.rand(8, device="cuda"))
    assert {wait.kind for wait in entered.waits} == ({kind} if kind else set())
