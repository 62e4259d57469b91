"""Teachers whose answers depend on how often they were asked: the audit asks again after training, and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from audits import request, with_attack
from fake_server import FakeServer, Fault
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.logits.soft_kd import SoftKD
from audit import pipeline
from audit.analysis.teacher_flags import answers_changed
from audit.cache.store import Cache
from audit.finished.verify import measured, verify
from reports.record import PackedArray, Record, load
from teachers.data.datasets import load as load_task
from teachers.errors import RefusedInput
from teachers.targets import questions
from teachers.targets.runtime import Runtime
from teachers.targets.teaching import ordinary_teacher
from teachers.views import Viewer, ViewSet

pytestmark = pytest.mark.usefixtures("tiny")
FLAG = "answers-changed"
Answer = Callable[[Tensor], Tensor]


@dataclass
class Turning:
    """Answer one way until some images were asked about, and another way after them."""

    before: Answer
    after: Answer
    turn: int
    asked: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        at = max(0, min(len(x), self.turn - self.asked))
        self.asked += len(x)
        return torch.cat([answer(part) for answer, part in ((self.before, x[:at]), (self.after, x[at:])) if len(part)])


@dataclass
class Labels:
    """Answer with smoothed labels: the network's top class, and nothing else."""

    network: Answer

    def __call__(self, x: Tensor) -> Tensor:
        hot = F.one_hot(self.network(x).argmax(-1), 10).float()
        return (0.9 * hot + 0.01).log() + 1


@dataclass
class Listening:
    """Remember the first images of which there was a question, by their bytes."""

    answer: Answer
    heard: list[bytes] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Tensor:
        self.heard += [image.float().numpy().tobytes() for image in x]
        return self.answer(x)


def flags(record: Record) -> set[str]:
    return {flag.id for flag in record.flags}


@pytest.fixture(scope="module")
def network(taught: Path) -> nn.Module:
    return ordinary_teacher(load_task("digits", taught), Runtime(Cache(taught), "cpu", lambda line: None)).here.eval()


def views(taught: Path) -> int:
    """Return the views of a tiny audit of soft KD."""
    return 2 * len(load_task("digits", taught).train)


@pytest.mark.slow
@pytest.mark.parametrize("honest", ["first", "last"])
def test_a_teacher_that_turns_among_the_views_is_not_called_undistillable(
    honest: str, server: FakeServer, cold: Callable[[str], Path], tmp_path: Path, taught: Path
) -> None:
    real = server.answer
    both = (real, Labels(real)) if honest == "first" else (Labels(real), real)
    server.answer = Turning(*both, turn=views(taught) // 2)
    record = pipeline.run(request(cold("cold"), tmp_path / "a", server.url, attacks="soft-kd")).record
    assert FLAG in flags(record)
    assert record.verdict.word == "INCONCLUSIVE"
    assert list(verify(tmp_path / "a")) == []
    assert record.distinct_answers == server.images
    again = record.probe.again
    assert again is not None
    assert again.queries == 2 * questions.VIEWS + record.probe.images
    share = (again.views.array() > 0.01).mean()
    assert 0.4 < share <= 0.5, "half of the views were asked in the other state"


@pytest.mark.slow
def test_a_teacher_that_turns_while_the_auditor_asks_is_found(
    server: FakeServer, cold: Callable[[str], Path], tmp_path: Path, taught: Path
) -> None:
    server.answer = Turning(server.answer, Labels(server.answer), turn=views(taught) + 500)
    record = pipeline.run(request(cold("cold"), tmp_path / "a", server.url, attacks="soft-kd")).record
    assert FLAG in flags(record)
    assert record.verdict.word == "INCONCLUSIVE"


def test_a_teacher_that_counts_in_this_process_is_found(network: nn.Module, taught: Path, tmp_path: Path) -> None:
    task = load_task("digits", taught)
    named = len(task.train) + len(task.validation) + 64  # a live teacher's fingerprint is made of answers
    live = Turning(network, Labels(network), turn=named + len(task.train))
    record = pipeline.run(request(taught, tmp_path / "a", "live:Turning", attacks="soft-kd", live=live)).record
    assert FLAG in flags(record)
    assert list(verify(tmp_path / "a")) == []


@pytest.mark.slow
def test_a_resumed_audit_of_a_teacher_that_began_to_count_anew_is_found(
    server: FakeServer, cold: Callable[[str], Path], tmp_path: Path, taught: Path
) -> None:
    """Its late views were answered with labels, and all that is asked after the interruption honestly."""
    cache, turning = cold("cold"), Turning(server.answer, Labels(server.answer), turn=views(taught) // 2)
    server.answer = turning
    server.faults += [None] * 32 + [Fault(500, "restarting")]
    with pytest.raises(RefusedInput, match="restarting"):
        pipeline.run(request(cache, tmp_path / "a", server.url, attacks="soft-kd"))
    assert turning.asked > views(taught), "all views were asked"
    turning.asked, turning.turn = 0, 10**9
    assert FLAG in flags(pipeline.run(request(cache, tmp_path / "a", server.url, attacks="soft-kd")).record)


@pytest.mark.slow
def test_an_audit_whose_answers_and_students_are_stored_sends_nothing_and_keeps_its_record(
    server: FakeServer, cold: Callable[[str], Path], tmp_path: Path
) -> None:
    cache = cold("cold")
    first, second = tmp_path / "a", tmp_path / "b"
    once = pipeline.run(request(cache, first, server.url, attacks="soft-kd")).record
    server.closed = True
    twice = pipeline.run(request(cache, second, server.url, attacks="soft-kd")).record
    assert (twice.times.trained, twice.probe, twice.ledger) == (0, once.probe, once.ledger)
    assert FLAG not in flags(once)


@pytest.mark.slow
def test_a_later_audit_that_sends_something_asks_again(
    server: FakeServer, cold: Callable[[str], Path], tmp_path: Path
) -> None:
    """Its teacher has become another one since: what is stored of the first audit is no evidence any more."""
    cache = cold("cold")
    pipeline.run(request(cache, tmp_path / "a", server.url, attacks="soft-kd"))
    server.answer = Labels(server.answer)
    record = pipeline.run(request(cache, tmp_path / "b", server.url, attacks="soft-kd,knockoff")).record
    assert FLAG in flags(record)


@pytest.mark.slow
def test_views_are_asked_before_the_auditors_own_images(
    server: FakeServer, cold: Callable[[str], Path], tmp_path: Path, taught: Path
) -> None:
    heard = Listening(server.answer)
    server.answer = heard
    pipeline.run(request(cold("cold"), tmp_path / "a", server.url, attacks="soft-kd"))
    task = load_task("digits", taught)
    viewer, index = Viewer(task.train, ViewSet("crop", 2)), torch.arange(len(task.train))
    wanted = {x.numpy().tobytes() for view in (0, 1) for x in viewer(index, torch.full_like(index, view))}
    assert set(heard.heard[: views(taught)]) == wanted
    mine = [torch.from_numpy(image).float().div(255).numpy().tobytes() for image in task.validation.images]
    assert heard.heard.index(mine[0]) >= views(taught)


class Restless(nn.Module):
    """Answer at a random temperature, another one for each image and each time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.drawn = network, torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits * (0.5 + torch.rand(len(x), 1, generator=self.drawn))


@pytest.mark.slow
def test_a_random_temperature_is_noise_and_no_change(
    server: FakeServer, network: nn.Module, cold: Callable[[str], Path], tmp_path: Path
) -> None:
    server.answer = Restless(network)
    record = pipeline.run(request(cold("cold"), tmp_path / "a", server.url, attacks="soft-kd")).record
    assert "noisy-answers" in flags(record)
    assert FLAG not in flags(record)


@pytest.mark.parametrize(
    "surface", ["probs", *(pytest.param(s, marks=pytest.mark.slow) for s in ("noise:0.5", "label", "top:3+round:2"))]
)
def test_a_teacher_that_stays_as_it_is_raises_nothing(surface: str, taught: Path, tmp_path: Path) -> None:
    record = pipeline.run(request(taught, tmp_path / "a", surface=surface, attacks="label-mixup")).record
    assert FLAG not in flags(record)
    again = record.probe.again
    assert again is not None
    assert max(again.views.array().max(initial=0), again.validation.array().max()) <= 1e-3
    assert list(verify(tmp_path / "a")) == []


@pytest.mark.slow
def test_an_audit_without_views_asks_its_validation_images_again(taught: Path, tmp_path: Path) -> None:
    record = pipeline.run(request(taught, tmp_path / "a", attacks="knockoff")).record
    again = record.probe.again
    assert again is not None
    assert (again.views.shape, again.queries) == ((0,), record.probe.images)
    assert list(verify(tmp_path / "a")) == []


@pytest.mark.slow
def test_views_that_only_a_new_attack_uses_are_asked_again_as_well(
    taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Twofold(SoftKD):
        name, views = "twofold", "crop+strong"

        def run(self, lab):  # type: ignore[no-untyped-def]
            return lab.fit(lab.stream(self.views, lab.answers(self.views)), self.loss)

    with_attack(monkeypatch, Twofold)
    seen: list[int] = []
    spread = questions.spread
    monkeypatch.setattr(questions, "spread", lambda asked: seen.append(asked) or spread(asked))
    pipeline.run(request(taught, tmp_path / "a", attacks="twofold,soft-kd"))
    assert set(seen) == {2 * views(taught)}, "crops once, and strong views"


def moved(share: float, noise: float = 0.0, images: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Return changes of images of which a share changed by 0.5, with noise on all, and the noise alone."""
    rng = np.random.default_rng(0)
    both = noise * rng.random((2, images))
    return (both[0] + 0.5 * (np.arange(images) < share * images)).astype(np.float16), both[1].astype(np.float16)


@pytest.mark.parametrize(
    ("changes", "raised"),
    [
        (moved(0), False),
        (moved(0.02), False),  # five images: an API that hiccups
        (moved(0.05), True),
        (moved(0, noise=0.3), False),
        (moved(0.05, noise=0.3), False),  # lost in the noise
        (moved(0.5, noise=0.3), True),
        (moved(1.0), True),
        (moved(0, images=0), False),
    ],
)
def test_a_change_counts_beyond_rounding_and_beyond_noise(changes: tuple[np.ndarray, np.ndarray], raised: bool) -> None:
    found = answers_changed({"views": changes})
    assert (found is not None) == raised
    if found is not None:
        assert (found.id, found.caps) == (FLAG, "inconclusive")


def test_noise_alone_raises_the_flag_as_seldom_as_its_level_says() -> None:
    rng, raised = np.random.default_rng(0), 0
    for _ in range(4_000):
        before, now, then = rng.normal(size=(3, 64))
        changes = np.abs(before - now).astype(np.float16), np.abs(now - then).astype(np.float16)
        raised += answers_changed({"views": changes}) is not None
    assert raised <= 12, "0.1 % of 4,000, within four standard errors"


def test_views_lie_evenly_over_all_that_were_asked() -> None:
    assert questions.spread(0).tolist() == []
    assert questions.spread(3).tolist() == [0, 1, 2]
    assert (questions.spread(10_000)[[0, -1]] == [0, 9_999]).all()
    assert len(questions.spread(256)) == len(questions.spread(10**7)) == questions.VIEWS
    assert np.ptp(np.diff(questions.spread(10**6))) <= 1
    assert questions.again(100, 10**6) == 100 + 2 * questions.VIEWS


def forged(record: Record, **values: object) -> Record:
    assert record.probe.again is not None
    again = record.probe.again.model_copy(update=values)
    return record.model_copy(update={"probe": record.probe.model_copy(update={"again": again})})


def test_a_forged_second_probe_is_found(finished: Path) -> None:
    record = load(finished)
    assert record.probe.again is not None
    short = PackedArray.of(record.probe.again.views.array()[:-1])
    without = record.model_copy(update={"probe": record.probe.model_copy(update={"again": None})})
    ledger = tuple(row for row in record.ledger if row.purpose != "probe again")
    for change, where in (
        (without, "probe.again"),
        (without.model_copy(update={"ledger": ledger}), "probe.again"),
        (forged(record, queries=7), "probe.again.queries"),
        (forged(record, views=short, noise=short), "probe.again.views"),
        (forged(record, queries=7).model_copy(update={"ledger": ledger}), "ledger, sent for the auditor"),
    ):
        assert where in [found.where for found in measured(change)], where


def test_a_record_of_an_earlier_version_is_written_as_it_was(finished: Path) -> None:
    probe = load(finished).probe.model_copy(update={"again": None})
    assert "again" not in probe.model_dump_json()


def test_a_teacher_of_another_order_is_refused_before_all_views_are_paid_for(
    server: FakeServer, cold: Callable[[str], Path], tmp_path: Path, taught: Path
) -> None:
    real, turned = server.answer, [1, 0, *range(2, 10)]
    server.answer = lambda x: real(x)[:, turned]
    with pytest.raises(RefusedInput, match="classes in another order"):
        pipeline.run(request(cold("cold"), tmp_path / "a", server.url, attacks="soft-kd"))
    task = load_task("digits", taught)
    assert server.images < len(task.train) + len(task.validation) + len(task.test) + 200


@pytest.mark.slow
def test_a_teacher_that_lies_about_training_images_is_not_refused_for_it(
    server: FakeServer, cold: Callable[[str], Path], tmp_path: Path, taught: Path
) -> None:
    task, real = load_task("digits", taught), server.answer
    viewer, index = Viewer(task.train, ViewSet("crop", 2)), torch.arange(len(task.train))
    views_ = {x.numpy().tobytes() for view in (0, 1) for x in viewer(index, torch.full_like(index, view))}

    def lying(x: Tensor) -> Tensor:
        lies = torch.tensor([image.float().numpy().tobytes() in views_ for image in x])
        return torch.where(lies[:, None], real(x).roll(1, -1), real(x))

    server.answer = lying
    record = pipeline.run(request(cold("cold"), tmp_path / "a", server.url, attacks="soft-kd")).record
    assert record.distinct_answers == server.images
    assert list(verify(tmp_path / "a")) == []


def test_a_teacher_in_a_process_of_its_own_is_asked_again(taught: Path, tmp_path: Path) -> None:
    record = pipeline.run(request(taught, tmp_path / "a", attacks="soft-kd", isolate=True)).record
    again = record.probe.again
    assert again is not None
    assert len(again.views.array()) == questions.VIEWS
    assert not again.views.array().any()
    assert not again.validation.array().any()
