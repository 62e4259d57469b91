"""LSKD: what standardised logits ignore."""

import math
import statistics

import pytest
import torch
from small_batches import B, batch, logits
from torch.nn import functional as F

from attacks.logits.lskd import LSKD
from attacks.logits.soft_kd import SoftKD
from attacks.losses import standardise
from teachers.surface import Answers
from teachers.training import Batch, Outputs


def test_lskd_ignores_scale_and_shift_of_the_teachers_logits() -> None:
    z, now = logits(0), batch()
    scaled = Batch(now.x, now.labels, Answers("probs", F.log_softmax(0.2 * logits(100), -1)))
    torch.testing.assert_close(
        LSKD().loss(Outputs(z), now, 0), LSKD().loss(Outputs(z), scaled, 0), rtol=1e-5, atol=1e-6
    )
    assert not torch.isclose(SoftKD().loss(Outputs(z), now, 0), SoftKD().loss(Outputs(z), scaled, 0), rtol=1e-3)


def test_lskd_ignores_the_students_scale_but_for_the_label_part() -> None:
    now, attack = batch(), LSKD(supervised=0.0)
    torch.testing.assert_close(
        attack.loss(Outputs(logits(0)), now, 0), attack.loss(Outputs(3 * logits(0)), now, 0), rtol=1e-5, atol=1e-6
    )


def test_standardised_logits_have_mean_zero_and_unit_deviation() -> None:
    z = standardise(logits(3))
    torch.testing.assert_close(z.mean(-1), torch.zeros(B, dtype=z.dtype), atol=1e-9, rtol=0)
    torch.testing.assert_close(z.std(-1), torch.ones(B, dtype=z.dtype), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("weight", "T", "labels"), [(9.0, 2.0, 0.1), (1.0, 2.0, 1.0), (1.0, 1.0, 1.0)])
def test_lskd_is_the_loss_of_the_labels_and_w_times_kd_of_z_scores(weight: float, T: float, labels: float) -> None:
    """λ CE + w T² KL(softmax(z-scores of the teacher / T) ‖ that of the student), by loops."""
    now, total = batch(), 0.0
    for i, y in enumerate(now.labels.tolist()):
        p, q = (softmax(z_scores(row), T) for row in (logits(100)[i].tolist(), logits(0)[i].tolist()))
        total -= labels * math.log(softmax(logits(0)[i].tolist(), 1.0)[y])
        total += weight * T * T * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    attack = LSKD(weight=weight, temperature=T, supervised=labels)
    assert attack in LSKD.grid()
    assert float(attack.loss(Outputs(logits(0)), now, 0)) == pytest.approx(total / B, rel=1e-5)


def z_scores(row: list[float]) -> list[float]:
    return [(v - statistics.mean(row)) / statistics.stdev(row) for v in row]


def softmax(row: list[float], T: float) -> list[float]:
    powers = [math.exp(z / T) for z in row]
    return [power / sum(powers) for power in powers]
