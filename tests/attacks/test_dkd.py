"""DKD against a masked reference, and recomposed to KD."""

import math
import statistics

import pytest
import torch
from small_batches import B, K, batch, logits
from torch.nn import functional as F

from attacks.contract import SHAPE, tiny_lab
from attacks.logits.dkd import DKD
from attacks.losses import kd
from teachers.surface import FULL, Answers
from teachers.training import Batch


def test_dkd_with_equal_teacher_is_zero_and_parts_agree_with_masked_reference() -> None:
    z, now, T = logits(0), batch(), 2.0
    attack = DKD(temperature=T, alpha=1.5, beta=2.5)
    same = Batch(now.x, now.labels, Answers("probs", F.log_softmax(z, -1)))
    assert float(attack.distilled(z, same)) == pytest.approx(0, abs=1e-9)
    p, q = F.softmax(logits(100) / T, -1), F.softmax(z / T, -1)
    total = 0.0
    for i, y in enumerate(now.labels.tolist()):
        pt, qt = float(p[i, y]), float(q[i, y])
        tckd = pt * math.log(pt / qt) + (1 - pt) * math.log((1 - pt) / (1 - qt))
        others = [c for c in range(K) if c != y]
        nckd = sum(
            float(p[i, c]) / (1 - pt) * math.log((float(p[i, c]) / (1 - pt)) / (float(q[i, c]) / (1 - qt)))
            for c in others
        )
        total += 1.5 * tckd + 2.5 * nckd
    assert float(attack.distilled(z, now)) == pytest.approx(T * T * total / B, rel=1e-6)


def test_dkd_recomposes_kd_where_beta_is_the_non_target_mass() -> None:
    """KD = TCKD + (1 − p_t) NCKD (Zhao et al., equation 6), for one image."""
    z, T = logits(0)[:1], 1.0
    now = Batch(torch.zeros(1, 1, 2, 2), torch.tensor([2]), Answers("probs", F.log_softmax(logits(100)[:1], -1)))
    p = F.softmax(logits(100)[:1], -1)
    beta = 1 - float(p[0, 2])
    assert float(DKD(temperature=T, beta=beta).distilled(z, now)) == pytest.approx(float(kd(z, p, T)), rel=1e-6)


def z_scores(row: torch.Tensor) -> list[float]:
    values = row.tolist()
    return [(v - statistics.mean(values)) / statistics.stdev(values) for v in values]


def softmax(row: list[float], T: float) -> list[float]:
    powers = [math.exp(z / T) for z in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize(("alpha", "beta", "T"), [(9.0, 81.0, 4.0), (1.0, 8.0, 2.0)])
def test_standardised_dkd_decouples_z_scores_of_both_sides(alpha: float, beta: float, T: float) -> None:
    """T² (α TCKD + β NCKD) of softmax(z-scores / T), by loops over images and classes."""
    z, now, total = logits(0), batch(), 0.0
    for i, y in enumerate(now.labels.tolist()):
        p, q = softmax(z_scores(logits(100)[i]), T), softmax(z_scores(z[i]), T)
        rest, told = 1 - p[y], 1 - q[y]
        total += alpha * (p[y] * math.log(p[y] / q[y]) + rest * math.log(rest / told))
        others = [c for c in range(K) if c != y]
        total += beta * sum(p[c] / rest * math.log((p[c] / rest) / (q[c] / told)) for c in others)
    attack = DKD(standardised=True, alpha=alpha, beta=beta, temperature=T)
    assert attack in DKD.grid()
    assert float(attack.distilled(z, now)) == pytest.approx(T * T * total / B, rel=1e-5)


def test_standardised_dkd_ignores_the_scale_of_both_sides_and_plain_dkd_of_neither() -> None:
    z, now = logits(0), batch()
    shrunk = Batch(now.x, now.labels, Answers("probs", F.log_softmax(0.2 * logits(100), -1)))
    mine, plain = DKD(standardised=True), DKD()
    for students, answers in ((3 * z, now), (z, shrunk)):
        torch.testing.assert_close(mine.distilled(students, answers), mine.distilled(z, now), rtol=1e-4, atol=1e-6)
        assert not torch.isclose(plain.distilled(students, answers), plain.distilled(z, now), rtol=1e-2)


def test_dkd_for_imagenet_is_half_the_others_at_temperature_one() -> None:
    z, now = logits(0), batch()
    attack = DKD(temperature=1.0, beta=0.5)
    assert attack in DKD.grid()
    parts = (DKD(temperature=1.0, alpha=a, beta=b).distilled(z, now) for a, b in ((1.0, 0.0), (0.0, 1.0)))
    target, others = parts
    torch.testing.assert_close(attack.distilled(z, now), target + others / 2)


def test_every_option_of_dkd_changes_the_student() -> None:
    x = torch.rand(4, *SHAPE)
    one, other = (a.attempt(tiny_lab(FULL, 0)).network(x) for a in (DKD(), DKD(standardised=True)))
    assert not torch.allclose(one, other, atol=1e-6)
