"""DKD against a masked reference, and recomposed to KD."""

import math

import pytest
import torch
from small_batches import B, K, batch, logits
from torch.nn import functional as F

from attacks.logits.dkd import DKD
from attacks.losses import kd
from teachers.surface import Answers
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
