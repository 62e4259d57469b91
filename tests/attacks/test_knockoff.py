"""Knockoff Nets: imitate answers of any kind."""

import torch
from small_batches import batch, logits
from torch.nn import functional as F

from attacks.surrogate.knockoff import imitate
from teachers.surface import Answers
from teachers.training import Batch, Outputs


def test_knockoff_imitates_probabilities_or_one_hot_labels() -> None:
    z, now = logits(0), batch()
    expected = -(F.softmax(logits(100), -1) * F.log_softmax(z, -1)).sum(-1).mean()
    torch.testing.assert_close(imitate(Outputs(z), now, 0), expected, check_dtype=False)
    hard = Batch(now.x, now.labels, Answers("label", now.answers.labels))
    torch.testing.assert_close(imitate(Outputs(z), hard, 0), F.cross_entropy(z, now.answers.labels), check_dtype=False)
