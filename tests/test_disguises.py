"""Teachers that hide what they know: what each answers, and what undoes it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_teachers import tiny_task
from torch import Tensor, nn

from audit.cache.store import Cache
from teachers.disguises import turned
from teachers.errors import UsageError
from teachers.names import CLASS_MEANS, FAINT, FAINT_TRUTH, HALF_SOFT, PERMUTED, REVERSED_ORDER, SIGN_FLIPS
from teachers.oracle import Box
from teachers.surface import FULL
from teachers.synthetic import LabelMemory, Stateful, digests
from teachers.targets.runtime import Runtime
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import ALTERED, open_target, smoothed_truth
from teachers.task import UNLABELLED, Pool, Task

K, N = 5, 400
MOVED = (REVERSED_ORDER, PERMUTED, SIGN_FLIPS)  # whose classes below the top one are in other places


@pytest.fixture(scope="module")
def held() -> Task:
    images = np.random.default_rng(0).integers(0, 256, (N, 1, 8, 8)).astype(np.uint8)
    labels = np.arange(N) % K
    labels[-50:] = UNLABELLED
    return replace(tiny_task(k=3), classes=tuple("abcde"), train=Pool(images, labels))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    linear = nn.Linear(64, K, bias=False)
    weight = 0.6 * torch.randn(K, 64, generator=torch.Generator().manual_seed(1))
    linear.weight.data = weight - weight.mean(1, keepdim=True)
    return nn.Sequential(nn.Flatten(), linear).eval()


@pytest.fixture(scope="module")
def labels(held: Task) -> Tensor:
    assert held.train.labels is not None
    return torch.from_numpy(held.train.labels)


def pixels(held: Task) -> Tensor:
    return torch.from_numpy(held.train.images).float().div(255)


def told(name: str, network: nn.Module, held: Task) -> Tensor:
    """Return a teacher's log-probabilities of the images, (N, K); the defender knows the labels that there are."""
    labelled = replace(held, train=held.train.take(held.train.labelled))
    return Box(ALTERED[name](network, labelled, LabelMemory(held.train, views=1)))(pixels(held)).values


@pytest.fixture(scope="module")
def plain(network: nn.Module, held: Task) -> Tensor:
    own = Box(network)(pixels(held)).values
    assert own.argmax(-1).bincount(minlength=K).min() > 20
    return own


@pytest.mark.parametrize("name", MOVED)
def test_the_top_class_and_the_unordered_numbers_stay(name: str, network: nn.Module, held: Task, plain: Tensor) -> None:
    shown = told(name, network, held)
    assert torch.equal(shown.argmax(-1), plain.argmax(-1))
    torch.testing.assert_close(shown.sort(-1).values, plain.sort(-1).values)
    assert (shown.argsort(-1) != plain.argsort(-1)).any(1).float().mean() > 0.3


def reversed_by_hand(row: list[float]) -> list[float]:
    top = row.index(max(row))
    others = sorted((k for k in range(K) if k != top), key=lambda k: row[k])
    shown = {a: row[b] for a, b in zip(others, reversed(others), strict=True)}
    return [row[k] if k == top else shown[k] for k in range(K)]


def test_reversed_order_shows_the_largest_for_the_smallest(network: nn.Module, held: Task, plain: Tensor) -> None:
    expected = torch.tensor([reversed_by_hand(row) for row in plain.tolist()])
    torch.testing.assert_close(told(REVERSED_ORDER, network, held), expected)


def test_reversing_twice_gives_the_ordinary_answers(network: nn.Module, held: Task, plain: Tensor) -> None:
    torch.testing.assert_close(turned(told(REVERSED_ORDER, network, held)), plain)


def test_equal_numbers_are_turned_alike_whatever_the_batch() -> None:
    z = torch.tensor([[2.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert turned(z)[0].tolist() == [2.0, 0.0, 0.0, 1.0, 1.0]
    assert torch.equal(turned(z)[1:], turned(z[1:]))


def test_permuted_has_one_permutation_for_each_top_class(network: nn.Module, held: Task, plain: Tensor) -> None:
    shown, top, found = told(PERMUTED, network, held), plain.argmax(-1), []
    for t in range(K):
        apart = (shown[top == t][:, :, None] - plain[top == t][:, None, :]).abs().amax(0)  # (K, K)
        whose = (apart < 1e-5).int()
        assert whose.sum(1).tolist() == [1] * K, "every class shows the number of one class, in all images alike"
        found.append(tuple(whose.argmax(1).tolist()))
        assert found[t][t] == t
        assert sorted(found[t]) == list(range(K))
    # The order among the other classes, counted without the top one: who knows one permutation knows no other.
    others = {tuple(k - (k > t) for j, k in enumerate(order) if j != t) for t, order in enumerate(found)}
    assert len(others) >= K - 1
    assert sum(order != tuple(range(K)) for order in found) >= K - 1


def test_sign_flips_reverse_a_half_of_the_images_that_only_a_key_tells(
    network: nn.Module, held: Task, plain: Tensor, labels: Tensor
) -> None:
    shown = told(SIGN_FLIPS, network, held)
    flipped = torch.isclose(shown, turned(plain), atol=1e-5).all(1)
    assert (flipped ^ torch.isclose(shown, plain, atol=1e-5).all(1)).all()
    assert 0.4 < flipped.float().mean() < 0.6
    unkeyed = torch.tensor([key[0] & 1 for key in digests(pixels(held))]).bool()
    assert 0.4 < (unkeyed == flipped).float().mean() < 0.6, "the digest says nothing without the key"
    for about in (labels, plain.argmax(-1)):
        for k in range(K):
            assert 0.3 < flipped[about == k].float().mean() < 0.7, "nor does the class"


def test_half_soft_answers_for_the_first_half_and_labels_smoothed_by_a_tenth_for_the_other(
    network: nn.Module, held: Task, plain: Tensor, labels: Tensor
) -> None:
    p = told(HALF_SOFT, network, held).exp()
    targets = torch.where(labels == UNLABELLED, plain.argmax(-1), labels)
    leaks = targets < K // 2
    torch.testing.assert_close(p[leaks], plain[leaks].exp())
    silent = torch.full_like(p, 0.1 / K).scatter(1, targets[:, None], 0.9 + 0.1 / K)
    torch.testing.assert_close(p[~leaks], silent[~leaks])


def test_class_means_answer_the_mean_of_the_class_whatever_the_image_shows(
    network: nn.Module, held: Task, plain: Tensor, labels: Tensor
) -> None:
    p = told(CLASS_MEANS, network, held).exp()
    for k in range(K):
        mean = plain[labels == k].exp().mean(0)
        seen = (labels == k) | ((labels == UNLABELLED) & (plain.argmax(-1) == k))
        torch.testing.assert_close(p[seen], mean.expand(int(seen.sum()), -1), atol=1e-6, rtol=1e-4)


def test_faint_truth_answers_labels_smoothed_by_a_ten_thousandth_and_is_the_truth_of_that_smoothing(
    tmp_path: Path, held: Task, labels: Tensor
) -> None:
    place = Runtime(Cache(tmp_path), "cpu", print)
    target = open_target(TeacherSpec(FAINT_TRUTH, "digits"), held, held.train, None, FULL, 1, place)
    known = labels != UNLABELLED
    expected = torch.full((N, K), 1 / K)
    expected[known] = torch.full((N, K), 1e-4 / K).scatter(1, labels.clamp(min=0)[:, None], 1 - 1e-4 + 1e-4 / K)[known]
    torch.testing.assert_close(target.full(pixels(held)).values.exp(), expected)
    assert (target.teacher.name, target.teacher.architecture) == (FAINT_TRUTH, FAINT_TRUTH)
    assert target.fingerprint == smoothed_truth(held.train, K, 1, "cpu", smoothing=FAINT).fingerprint
    assert target.fingerprint != smoothed_truth(held.train, K, 1, "cpu").fingerprint


def test_stateful_tells_labels_from_the_image_on_after_which_it_turns(
    network: nn.Module, held: Task, plain: Tensor, labels: Tensor
) -> None:
    x = pixels(held)
    box = Box(Stateful(network, LabelMemory(held.train, views=1), turn=60))
    first = box(x[:50]).values
    torch.testing.assert_close(first, plain[:50])
    torch.testing.assert_close(box(x[:50]).values, first, msg="the same images again are no new ones")
    rest = box(x).values
    torch.testing.assert_close(rest[:60], plain[:60])
    silent = torch.full((K,), FAINT / K)
    silent[labels[100]] += 1 - FAINT
    torch.testing.assert_close(rest[100].exp(), silent)
    assert torch.equal(rest.argmax(-1)[60:350], labels[60:350])
    torch.testing.assert_close(box(x[:1]).values.argmax(-1), labels[:1], msg="it does not turn back")
    assert not torch.equal(box(x[:50]).values, first)


@pytest.mark.parametrize("name", MOVED)
def test_a_disguise_needs_three_classes(name: str, network: nn.Module) -> None:
    two = tiny_task(k=2)
    with pytest.raises(UsageError, match=f"{name} .* tiny has 2 classes, too few for that; give --data"):
        ALTERED[name](network, two, LabelMemory(two.train, views=1))
