"""That attacks on logits work with two classes: no loss grows as classes get fewer until it drowns the rest."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.logits import ATTACKS
from attacks.logits.mlkd import CROWD, MLKD
from teachers.oracle import Box, Oracle
from teachers.surface import Answers, Surface
from teachers.task import Augment, Pool
from teachers.training import Batch, Recipe

FULL = Surface("probs")
SHAPE = (1, 8, 8)


def threes_and_eights() -> tuple[Pool, torch.Tensor, np.ndarray]:
    """Return a pool of half of them, and the images and labels of the others."""
    from sklearn.datasets import load_digits

    data, labels = load_digits(return_X_y=True)
    kept = np.isin(labels, (3, 8))
    images = (data[kept] * 255 / 16).round().astype(np.uint8).reshape(-1, *SHAPE)
    order = np.random.default_rng(0).permutation(kept.sum())
    labels, half = (labels[kept] == 8).astype(np.int64), len(order) // 2
    pool = Pool(images[order[:half]], labels[order[:half]], Augment(pad=1))
    return pool, torch.from_numpy(images[order[half:]]).float() / 255, labels[order[half:]]


def teacher(pool: Pool) -> nn.Module:
    """Fit a linear network by least squares."""
    x = np.c_[pool.images.reshape(len(pool), -1) / 255, np.ones(len(pool))]
    target = np.eye(2)[pool.labels] - 0.1
    weights = np.linalg.solve(x.T @ x + np.eye(65), x.T @ target) * 12
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.from_numpy(weights[:64].T))
        network[1].bias.copy_(torch.from_numpy(weights[64]))
    return network.eval()


def accuracy(attack: Attack) -> float:
    pool, images, labels = threes_and_eights()
    oracle = Oracle(Box(teacher(pool), FULL), surface=FULL, shape=SHAPE, budget=None)
    recipe = Recipe("strided-8-16-32", steps=150, batch=128, views=4)
    lab = Lab(oracle=oracle, pool=pool, surrogate=pool.take(np.arange(0)), classes=2, recipe=recipe, seed=0)
    student = attack.attempt(lab)
    with torch.no_grad():
        logits = student.network(images)
    return float((getattr(logits, "logits", logits).argmax(1).numpy() == labels).mean())


def test_mlkd_works_with_two_classes() -> None:
    assert accuracy(MLKD()) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_every_attack_on_logits_has_a_setting_that_works_with_two_classes(attack: type[Attack]) -> None:
    assert any(accuracy(setting) > 0.95 for setting in attack.grid())


def levels(classes: int, images: int) -> float:
    """Return the size of the gradient of MLKD's levels, at a student that knows nothing, of a teacher that is sure."""
    z = torch.randn(images, classes, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.arange(images) % classes
    answers = Answers("probs", F.log_softmax(8 * F.one_hot(labels, classes).float(), -1))
    now = Batch(torch.zeros(images, *SHAPE), labels, answers, torch.arange(images), torch.zeros(images).long())
    (gradient,) = torch.autograd.grad(MLKD(masked=False).levels(z, now, 4.0), z)
    return float(gradient.abs().sum())


def test_mlkds_gradient_stays_in_bounds_as_classes_get_fewer_and_batches_larger() -> None:
    ten = levels(10, 128)
    assert levels(2, 128) < 2 * ten
    assert levels(2, 512) < 2 * ten
    assert CROWD * 10 == 128, "with ten classes and the batch of all recipes it is the paper's"
