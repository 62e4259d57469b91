"""The distillation loss of Hinton et al., and the attack that mixes it with the labels."""

import math

import pytest
import torch
from small_batches import B, K, batch, logits
from torch.nn import functional as F

from attacks.logits.soft_kd import SoftKD
from attacks.losses import cross_entropy, kd
from teachers.training import Outputs


def test_gradient_of_kd_is_its_closed_form() -> None:
    """Summed over classes and averaged over the batch: dividing by the number of classes would be K times too weak."""
    z, T = logits(0).requires_grad_(), 4.0
    target = F.softmax(logits(1) / T, -1)
    kd(z, target, T).backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, T * (F.softmax(z.detach() / T, -1) - target) / B)


def test_kd_is_a_sum_over_classes_by_brute_force() -> None:
    z, t, T = logits(0), logits(1), 2.0
    p, q = F.softmax(t / T, -1), F.softmax(z / T, -1)
    total = sum(float(p[i, c] * math.log(p[i, c] / q[i, c])) for i in range(B) for c in range(K))
    assert float(kd(z, p, T)) == pytest.approx(T * T * total / B, rel=1e-9)


def test_soft_kd_mixes_label_and_teacher() -> None:
    z, now = logits(0), batch()
    attack = SoftKD(temperature=3.0, weight=0.7)
    p = F.softmax(logits(100) / 3.0, -1)
    expected = (
        0.3 * F.cross_entropy(z, now.labels) + 0.7 * 9 * F.kl_div(F.log_softmax(z / 3, -1), p, reduction="sum") / B
    )
    torch.testing.assert_close(attack.loss(Outputs(z), now, 0), expected, check_dtype=False)


def test_soft_kd_learns_from_the_teacher_and_not_from_the_label_alone() -> None:
    z, now, T = logits(0).requires_grad_(), batch(), 4.0
    SoftKD(temperature=T, weight=1.0).loss(Outputs(z), now, 0).backward()
    assert z.grad is not None
    expected = T * (F.softmax(z.detach() / T, -1) - F.softmax(logits(100) / T, -1)) / B
    torch.testing.assert_close(z.grad, expected)


def test_cross_entropy_averages_over_rows_that_have_a_target() -> None:
    target = F.one_hot(torch.tensor([0, 1, 2, 3, 4, 0, 1]), K).double()
    target[3:] = 0
    expected = F.cross_entropy(logits(0)[:3], torch.tensor([0, 1, 2]))
    torch.testing.assert_close(cross_entropy(logits(0), target), expected)
