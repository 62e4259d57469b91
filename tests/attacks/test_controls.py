"""Controls: each formula against an independent reference, and what each option changes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attacks import registry
from attacks.base import Control, Lab
from attacks.contract import CLASSES, SHAPE, tiny_lab
from attacks.controls.ce import CE
from attacks.controls.dist_ls import DistLS
from attacks.controls.ls import LS
from attacks.controls.lw_kd import LWKD, Mimicry, paired, synthetic
from attacks.controls.self_kd import SelfKD, own_answers
from attacks.controls.tf_kd import TfKD
from attacks.logits.dist import DIST
from teachers.surface import FULL, Answers
from teachers.task import UNLABELLED
from teachers.training import Batch, Outputs
from teachers.views import Viewer, ViewSet

B, K = 7, 5
LIGHT = LWKD(images=4)


def logits(seed: int) -> torch.Tensor:
    return torch.randn(B, K, generator=torch.Generator().manual_seed(seed)) * 3


def batch() -> Batch:
    y = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    return Batch(torch.zeros(B, 1, 2, 2), y, Answers("probs", F.log_softmax(logits(100), -1)))


def without_oracle(seed: int = 1) -> Lab:
    lab = tiny_lab(FULL, seed)
    lab._oracle = None
    return lab


def weights(control: Control, seed: int = 1) -> torch.Tensor:
    return torch.cat([p.flatten() for p in control.attempt(without_oracle(seed)).network.parameters()])


@pytest.mark.parametrize("control", [CE(), TfKD(), SelfKD(), LIGHT], ids=lambda c: c.name)
def test_a_control_asks_nobody_repeats_itself_and_depends_on_its_seed(control: Control) -> None:
    assert registry.find(control.name) is type(control)
    assert torch.equal(weights(control), weights(control))
    assert not torch.equal(weights(control), weights(control, seed=2))


@pytest.mark.parametrize("control", [TfKD, SelfKD, LWKD], ids=lambda c: c.name)
def test_a_grid_starts_at_the_default_and_repeats_nothing(control: type[TfKD] | type[SelfKD] | type[LWKD]) -> None:
    grid = control.grid()
    assert grid[0] == control()
    assert len(set(grid)) == len(grid) <= 4


@pytest.mark.parametrize("control", [CE(), TfKD(), SelfKD(), LIGHT], ids=lambda c: c.name)
def test_a_control_trains_where_some_images_are_unlabelled(control: Control) -> None:
    lab = without_oracle()
    labels = lab.pool.labels.copy()
    labels[::2] = UNLABELLED
    lab.pool = replace(lab.pool, labels=labels)
    x = torch.rand(3, *SHAPE)
    assert torch.isfinite(control.attempt(lab).network(x)).all()


@pytest.mark.parametrize(
    ("control", "change"),
    [
        (TfKD(), {"temperature": 10.0}),
        (TfKD(), {"weight": 0.5}),
        (TfKD(), {"certainty": 0.9}),
        (SelfKD(), {"temperature": 2.0}),
        (SelfKD(), {"weight": 0.5}),
        (SelfKD(), {"smoothing": 0.1}),
        (LIGHT, {"temperature": 2.0}),
        (LIGHT, {"weight": 0.9}),
        (LIGHT, {"adversarial": 0.0}),
        (LIGHT, {"images": 8}),
        (LIGHT, {"architecture": "strided-4"}),
    ],
    ids=str,
)
def test_every_option_changes_the_student(control: Control, change: dict[str, float]) -> None:
    assert not torch.equal(weights(control), weights(replace(control, **change)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "control",
    [LS(smoothing=0.0), TfKD(weight=0.0), SelfKD(weight=0.0), replace(LIGHT, weight=0.0, adversarial=0.0)],
    ids=lambda c: c.name,
)
def test_without_its_own_part_each_control_is_the_plain_student(control: Control) -> None:
    torch.testing.assert_close(weights(control), weights(CE()), rtol=1e-6, atol=1e-8)


def test_the_plain_loss_is_the_cross_entropy() -> None:
    z, now = logits(0), batch()
    torch.testing.assert_close(CE().loss(Outputs(z), now, 0), F.cross_entropy(z, now.labels))


def test_the_virtual_teacher_by_brute_force() -> None:
    """(1 − α) CE + α T² Σ_k v_k^T log(v_k^T / p_k^T), averaged over images."""
    z, now, T = logits(0), batch(), 3.0
    raw = [[0.9 if k == int(y) else 0.1 / (K - 1) for k in range(K)] for y in now.labels]
    total = 0.0
    for i in range(B):
        powered = [v ** (1 / T) for v in raw[i]]
        v = [x / sum(powered) for x in powered]
        exp = [math.exp(float(z[i, k]) / T) for k in range(K)]
        total += sum(v[k] * math.log(v[k] / (exp[k] / sum(exp))) for k in range(K))
    expected = 0.7 * float(F.cross_entropy(z, now.labels)) + 0.3 * T * T * total / B
    got = TfKD(temperature=T, weight=0.3, certainty=0.9).loss(Outputs(z), now, 0)
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_the_virtual_teacher_of_the_paper_is_almost_even_at_its_temperature() -> None:
    v = TfKD().virtual(torch.tensor([3]), 100)[0]
    a, b = 0.99**0.05, (0.01 / 99) ** 0.05
    assert float(v[3]) == pytest.approx(a / (a + 99 * b), rel=1e-5)
    assert float(v.sum()) == pytest.approx(1)
    assert 0.01 < float(v[3]) < 0.02


def test_self_distillation_by_brute_force() -> None:
    z, now, T = logits(0), batch(), 2.0
    p, q = F.softmax(logits(100) / T, -1), F.softmax(z / T, -1)
    total = sum(float(p[i, k] * (p[i, k] / q[i, k]).log()) for i in range(B) for k in range(K))
    expected = 0.4 * float(F.cross_entropy(z, now.labels)) + 0.6 * T * T * total / B
    got = SelfKD(temperature=T, weight=0.6).loss(Outputs(z), now, 0)
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_the_attackers_own_answers_are_about_every_view_in_turn() -> None:
    lab = without_oracle()
    student, views = LS().attempt(lab), ViewSet("crop", 2)
    network, viewer, n = student.network, Viewer(lab.pool, views), len(lab.pool)
    told = own_answers(lab, student, lab.pool, views).values
    assert told.shape == (2 * n, CLASSES)
    for view in (0, 1):
        x = viewer(torch.arange(n), torch.full((n,), view))
        expected = F.log_softmax(network(x), -1)
        torch.testing.assert_close(told[view * n : (view + 1) * n], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(told[:n], told[n:], atol=1e-3)


def test_the_light_teachers_task_is_easy_and_balanced() -> None:
    """The nearest pattern, the mean over a class, names the class of a synthetic image."""
    easy = synthetic((1, 9, 7), 6, 10, 0)
    assert np.bincount(easy.labels).tolist() == [10] * 6
    flat = easy.images.reshape(60, -1).astype(float)
    means = np.stack([flat[easy.labels == c].mean(0) for c in range(6)])
    nearest = ((flat[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (nearest == easy.labels).all()
    assert (synthetic((1, 9, 7), 6, 10, 1).images != easy.images).any()


def test_each_label_is_paired_with_answers_to_images_of_its_class() -> None:
    classes = torch.tensor([0, 1, 2, 0, 1, 2, 2, 2])
    labels = torch.tensor([2, 0, 1] * 100)
    chosen = paired(classes, labels, 0)
    assert torch.equal(classes[chosen], labels)
    assert set(chosen.tolist()) == set(range(8))


def test_the_critic_and_the_student_learn_from_opposite_losses() -> None:
    """D learns −log D(light) − log(1 − D(student)), the student −γ log D(student), each alone."""
    z, now, gamma, T = logits(0).requires_grad_(), batch(), 0.3, 2.0
    mimicry = Mimicry(LWKD(weight=0.0, adversarial=gamma, temperature=T), K, 0, "cpu")
    p, target = F.softmax(z / T, -1), F.softmax(logits(100) / T, -1)
    cross = F.cross_entropy(z, now.labels)
    critic = list(mimicry.critic.parameters())
    got = torch.autograd.grad(mimicry(Outputs(z), now, 0), [z, *critic])
    for_student = cross - gamma * torch.sigmoid(mimicry.critic(p)).log().mean()
    torch.testing.assert_close(got[0], torch.autograd.grad(for_student, z, retain_graph=True)[0])
    ours = torch.sigmoid(mimicry.critic(p.detach()))
    for_critic = -torch.sigmoid(mimicry.critic(target)).log().mean() - (1 - ours).log().mean()
    for mine, expected in zip(got[1:], torch.autograd.grad(for_critic, critic), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


def test_dist_ls_is_dist_of_a_teacher_that_tells_the_smoothed_label() -> None:
    now, z = batch(), logits(3)
    told = Answers("probs", (F.one_hot(now.labels, K) * 0.8 + 0.2 / K).log())
    expected = DIST(beta=2.0, gamma=0.5, temperature=2.0).loss(Outputs(z), replace(now, answers=told), 0)
    loss = DistLS(smoothing=0.2, beta=2.0, gamma=0.5, temperature=2.0).loss(Outputs(z), now, 0)
    torch.testing.assert_close(loss, expected)


def test_dist_ls_learns_nothing_from_unlabelled_images() -> None:
    now, z = batch(), logits(3).requires_grad_()
    labels = now.labels.clone()
    labels[2:4] = UNLABELLED
    (slope,) = torch.autograd.grad(DistLS().loss(Outputs(z), replace(now, labels=labels), 0), z)
    assert torch.equal(slope[2:4], torch.zeros(2, K))
    assert bool((slope[:2] != 0).any())
