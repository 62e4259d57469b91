"""Synthetic teachers give away what they say and nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from audits import request
from small_teachers import tiny_task
from torch import Tensor, nn

from audit import pipeline
from audit.cache.store import Cache
from audit.finished.repeat import repeat
from audit.finished.verify import verify
from teachers import networks
from teachers.errors import UsageError
from teachers.names import BORN_AGAIN, BUILT_IN, DEMO, HALF_LEAK, NOISY, SYNTHETIC, TRUTH
from teachers.oracle import Box
from teachers.surface import FULL
from teachers.synthetic import FAINT, HalfLeak, LabelMemory, Noisy, class_means, placebo
from teachers.targets.runtime import Runtime
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import ALTERED as NETWORKS
from teachers.targets.target import open_target, open_task
from teachers.task import Pool, Task, few_labels, few_shot, known
from teachers.views import Viewer, ViewSet

pytestmark = pytest.mark.usefixtures("figures_once")

ALTERED = sorted(SYNTHETIC - {TRUTH})
K = 5


@pytest.fixture
def held() -> Task:
    return replace(tiny_task(n=200, k=K), classes=tuple("abcde"))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(1)
    return networks.raw_pixels(networks.build("strided-4-8", K, (1, 8, 8)), 1).eval()


def pixels(pool: Pool) -> Tensor:
    return torch.from_numpy(pool.images).float().div(255)


def told(teacher: nn.Module, x: Tensor) -> Tensor:
    """Return a teacher's probabilities as an oracle hears them, (N, K)."""
    return Box(teacher)(x).values.double().exp()


def others(p: Tensor, targets: Tensor) -> Tensor:
    """Return the probabilities of all classes but the target, in their order, (N, K - 1)."""
    rest = torch.ones_like(p, dtype=torch.bool).scatter(1, targets[:, None], False)
    return p[rest].reshape(len(p), -1)


def test_a_placebo_answers_the_class_mean_with_the_other_classes_shuffled(held: Task, network: nn.Module) -> None:
    answers, labels = told(network, pixels(held.train)), torch.from_numpy(known(held.train))
    means = torch.stack([answers[labels == y].mean(0) for y in range(K)])
    torch.testing.assert_close(class_means(network, held.train, K), means)
    p = told(placebo(network, held, LabelMemory(held.train, views=2)), pixels(held.train))
    torch.testing.assert_close(p[torch.arange(200), labels], means.diagonal()[labels], atol=1e-6, rtol=0)
    mine, mean = others(p, labels), others(means, torch.arange(K))[labels]
    torch.testing.assert_close(mine.sort(1).values, mean.sort(1).values, atol=1e-6, rtol=0)
    for y in range(K):
        orders = {tuple(row) for row in mine[labels == y].argsort(1).tolist()}
        assert len(orders) > 12, "of the 24 orders of four classes, 40 images must meet more than half"


def test_a_placebo_says_nothing_that_the_label_does_not(network: nn.Module, held: Task) -> None:
    """Averaged over a class, the other classes are alike: label smoothing, with an ε for each class."""
    rng = np.random.default_rng(0)
    many = Pool(rng.integers(0, 256, (4_000, 1, 8, 8)).astype(np.uint8), np.arange(4_000) % K)
    p = others(told(placebo(network, held, LabelMemory(many, views=1)), pixels(many)), torch.from_numpy(known(many)))
    for y in range(K):
        mine = p[y::K]
        even, error = mine.sum(1).mean() / (K - 1), mine.std(0) / len(mine) ** 0.5
        assert ((mine.mean(0) - even).abs() < 4 * error).all()


def test_targets_are_labels_of_training_views_and_elsewhere_the_top_class(held: Task, network: nn.Module) -> None:
    teacher = placebo(network, held, LabelMemory(held.train, views=3))
    index, labels = torch.arange(200), torch.from_numpy(known(held.train))
    confidence = class_means(network, held.train, K).diagonal()
    for view in range(3):
        seen = told(teacher, Viewer(held.train, ViewSet("crop", 3))(index, torch.full_like(index, view)))
        torch.testing.assert_close(seen[index, labels], confidence[labels], atol=1e-6, rtol=0)
    x = torch.rand(50, 1, 8, 8)
    top = network(x).argmax(1)
    torch.testing.assert_close(told(teacher, x)[torch.arange(50), top], confidence[top], atol=1e-6, rtol=0)


def test_a_half_leak_answers_for_the_first_half_and_tells_labels_of_the_other(held: Task, network: nn.Module) -> None:
    p = told(HalfLeak(network, LabelMemory(held.train, views=1)), pixels(held.train))
    labels = torch.from_numpy(known(held.train))
    leaks = labels < K // 2
    torch.testing.assert_close(p[leaks], told(network, pixels(held.train))[leaks])
    silent = torch.full_like(p, FAINT / K).scatter(1, labels[:, None], 1 - FAINT + FAINT / K)
    torch.testing.assert_close(p[~leaks], silent[~leaks], atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {NOISY}))
def test_an_answer_is_a_function_of_the_image_whoever_asks_and_when(held: Task, network: nn.Module, name: str) -> None:
    make = NETWORKS[name]
    first, again = (make(network, held, LabelMemory(held.train, views=1)) for _ in range(2))
    x = torch.cat([pixels(held.train)[:40], torch.rand(9, 1, 8, 8)])
    answers = told(first, x)
    assert torch.equal(told(first, x), answers)
    assert torch.equal(told(again, x.flip(0)).flip(0), answers)


def test_a_noisy_teacher_answers_anew_and_its_first_answers_are_the_same_in_every_process(
    held: Task, network: nn.Module
) -> None:
    one, other = Noisy(network), Noisy(network)
    x = pixels(held.train)
    first = told(one, x)
    told(other, x[7:])
    assert torch.equal(told(other, x[:7]), first[:7]), "what was asked before about other images changes nothing"
    second = told(one, x)
    assert (first != second).any(1).all()
    noise = torch.cat([one(x), one(x)]) - network(x).repeat(2, 1)
    assert abs(float(noise.std()) - 1) < 0.05
    assert abs(float(noise.mean())) < 0.07
    assert abs(float(torch.corrcoef(noise.reshape(2, -1))[0, 1])) < 0.1, "a second answer says nothing of the first"


def test_a_placebo_needs_three_classes(network: nn.Module) -> None:
    with pytest.raises(UsageError, match="tiny has 2 classes, too few"):
        placebo(network, tiny_task(k=2), LabelMemory(tiny_task(k=2).train, views=1))


def test_every_synthetic_teacher_opens_by_name_and_is_another_for_another_pool(kept: Path) -> None:
    task, _ = open_task(TeacherSpec(DEMO, "digits"), Cache(kept))
    place = Runtime(Cache(kept), "cpu", lambda text: None)

    def open_(name: str, pool: Pool) -> str:
        return open_target(TeacherSpec(name, "digits"), task, pool, None, FULL, 2, place).fingerprint

    pools = (task.train, few_shot(task.train, 0.5), few_labels(task.train, 0.5))
    assert set(BUILT_IN) == SYNTHETIC | {DEMO, BORN_AGAIN}
    prints = [open_(name, pool) for name in sorted(SYNTHETIC) for pool in pools] + [open_(DEMO, task.train)]
    assert len(set(prints)) == len(prints)
    assert [open_(name, task.train) for name in ALTERED] == [prints[3 * sorted(SYNTHETIC).index(n)] for n in ALTERED]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", [n if n == HALF_LEAK else pytest.param(n, marks=pytest.mark.slow) for n in ALTERED])
def test_an_audit_of_a_synthetic_teacher_says_so_and_can_be_verified_and_repeated(
    kept: Path, tmp_path: Path, name: str
) -> None:
    wanted = request(kept, tmp_path / "out", teacher=name, attacks="soft-kd")
    done = pipeline.run(wanted)
    of_suite = {
        "small-validation",
        "light-tuning",
        "fails-positive-control",
        "small-test",
        "mis-tuned",
    }  # this one is of seconds
    own = {"synthetic-teacher", "noisy-answers"} if name == NOISY else {"synthetic-teacher"}
    assert own == {f.id for f in done.record.flags} - of_suite
    assert list(verify(done.folder)) == []
    again = pipeline.run(replace(wanted, out=tmp_path / "again")).record
    assert again.times.trained == 0, "stored answers are the same answers, however noisy the teacher"
    assert again.comparisons == done.record.comparisons
    assert all(one.agrees for one in repeat(done.folder, cells=2, cache=kept))
