"""LSKD: what standardised logits ignore."""

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
