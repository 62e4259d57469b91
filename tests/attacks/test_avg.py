"""The averager: class means as targets."""

import math

import numpy as np
import pytest
import torch
from small_batches import B, K, batch, logits
from torch.nn import functional as F

from attacks.contract import CLASSES, SHAPE, tiny_lab
from attacks.logits.soft_kd import SoftKD
from attacks.resistant import avg
from attacks.resistant.avg import AVG, class_means
from teachers.surface import FULL, Answers, Surface
from teachers.task import UNLABELLED
from teachers.training import Batch, Outputs


def test_averager_targets_are_class_means() -> None:
    answers = Answers("probs", F.log_softmax(logits(1), -1))
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    means = class_means(answers, labels, 2.0)
    p = F.softmax(logits(1) / 2, -1)
    torch.testing.assert_close(means[1], p[2:5].mean(0), check_dtype=False)
    torch.testing.assert_close(means[4], torch.full((K,), 1 / K), check_dtype=False)


@pytest.mark.parametrize("geometric", [False, True])
@pytest.mark.parametrize("surface", ["probs", "top:3", "round:1"])
def test_class_means_have_the_same_bits_in_parts_of_any_size(
    surface: str, geometric: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = torch.Generator().manual_seed(0)
    z = 3 * torch.randn(3001, 62, generator=chance)
    shown, labels = Surface(surface)(F.log_softmax(z, -1)), torch.randint(-1, 62, (3001,), generator=chance)
    known = torch.where(labels == UNLABELLED, shown.labels, labels)
    rows = shown.logits() if geometric else shown.log_probs(4.0).exp()
    means = torch.zeros(62, 62).index_add_(0, known, rows) / torch.bincount(known, minlength=62)[:, None]
    at_once = F.softmax(means / 4.0, -1) if geometric else means
    for chunk in (1, 127, 1024, 3001, 4096):
        monkeypatch.setattr(avg, "CHUNK", chunk)
        assert torch.equal(class_means(shown, labels, 4.0, geometric=geometric), at_once)


def test_averager_equals_kd_when_a_class_has_one_answer() -> None:
    """Where CMI is zero the averager loses nothing."""
    lab = tiny_lab(FULL, seed=3)
    labels = torch.from_numpy(lab.pool.labels)
    rows = F.log_softmax(torch.eye(CLASSES) * 2, -1)[labels].repeat(2, 1)
    lab.told = lambda paid: Answers("probs", rows)  # type: ignore[method-assign]
    averaged, again = AVG().attempt(lab), SoftKD().attempt(lab)
    x = torch.rand(4, *SHAPE)
    torch.testing.assert_close(averaged.network(x), again.network(x), rtol=1e-4, atol=1e-5)


def mean_of_logits(rows: np.ndarray, labels: list[int], y: int) -> np.ndarray:
    """Return the mean of a class's centred logits, in plain NumPy."""
    mine = [row - row.mean() for row, of in zip(rows, labels, strict=True) if of == y]
    mean: np.ndarray = np.mean(mine, axis=0)
    return mean


def softmax(row: np.ndarray, T: float = 1.0) -> np.ndarray:
    powers = np.exp(row / T - (row / T).max())
    return powers / powers.sum()


@pytest.mark.parametrize("T", [1.0, 20.0])
def test_a_geometric_mean_is_the_softened_mean_of_logits(T: float) -> None:
    labels = [0, 0, 1, 1, 1, 2, UNLABELLED]
    answers = Answers("probs", F.log_softmax(logits(1), -1))
    known = [*labels[:-1], int(answers.labels[-1])]  # an answer without a label counts for its top class
    means = class_means(answers, torch.tensor(labels), T, geometric=True).numpy()
    for y in set(known):
        expected = softmax(mean_of_logits(logits(1).numpy(), known, y), T)
        np.testing.assert_allclose(means[y], expected, rtol=1e-5)
    for y in set(range(K)) - set(known):
        np.testing.assert_allclose(means[y], 1 / K)
    assert not np.allclose(means, class_means(answers, torch.tensor(labels), T).numpy(), rtol=0, atol=1e-5)


def test_a_geometric_mean_multiplies_probabilities() -> None:
    p = F.softmax(logits(1), -1)
    means = class_means(Answers("probs", p.log()), torch.zeros(len(p), dtype=torch.long), 1.0, geometric=True)
    product = p.prod(0) ** (1 / len(p))
    torch.testing.assert_close(means[0], product / product.sum(), rtol=1e-5, atol=1e-7)


def test_a_geometric_mean_of_answers_that_hide_classes_is_finite() -> None:
    shown = Surface("top:1")(F.log_softmax(logits(1), -1))
    means = class_means(shown, torch.arange(len(shown)) % 2, 20.0, geometric=True)
    torch.testing.assert_close(means.sum(-1), torch.ones(K), check_dtype=False)
    assert (means > 0).all()


def test_the_authors_average_logits_in_the_batch_and_weigh_by_the_square_of_alpha() -> None:
    """(1 − α) CE + α² T² KL(softmax(mean of the class's logits in the batch / T) ‖ p_s^T), by loops."""
    now, T, alpha = batch(), 20.0, 0.9
    z, t, labels = logits(0).numpy(), logits(100).numpy(), now.labels.tolist()
    total = 0.0
    for i, y in enumerate(labels):
        target, told = softmax(mean_of_logits(t, labels, y), T), softmax(z[i], T)
        total -= (1 - alpha) * math.log(softmax(z[i])[y])
        total += alpha**2 * T**2 * float((target * np.log(target / told)).sum())
    attack = AVG(temperature=T, weight=alpha, geometric=True, in_batch=True, squared=True)
    assert attack in AVG.grid()
    elsewhere = torch.full((K, K), 1 / K, dtype=torch.float64)
    assert float(attack.loss(Outputs(logits(0)), now, elsewhere)) == pytest.approx(total / B, rel=1e-6)


def test_means_of_a_batch_forget_other_answers_and_means_of_all_do_not() -> None:
    now, z = batch(), Outputs(logits(0))
    some, others = (F.softmax(logits(seed)[:K], -1) for seed in (1, 2))
    assert AVG(in_batch=True).loss(z, now, some) == AVG(in_batch=True).loss(z, now, others)
    assert AVG().loss(z, now, some) != AVG().loss(z, now, others)


def test_in_a_batch_of_one_image_a_class_the_averager_is_soft_kd() -> None:
    alone = batch(labels=[0, 1, 2, 3, 4, 0, 0])
    alone = Batch(alone.x[:K], alone.labels[:K], Answers("probs", alone.answers.values[:K]))
    z = Outputs(logits(0)[:K])
    for geometric in (False, True):
        mine = AVG(in_batch=True, geometric=geometric).loss(z, alone, torch.zeros(K, K))
        torch.testing.assert_close(mine, SoftKD().loss(z, alone, 0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("option", ["geometric", "in_batch", "squared"])
def test_every_option_of_the_averager_changes_the_student(option: str) -> None:
    one, other = (a.attempt(tiny_lab(FULL, 0)).network for a in (AVG(), AVG(**{option: True})))
    x = torch.rand(4, *SHAPE)
    assert not torch.allclose(one(x), other(x), atol=1e-6)
