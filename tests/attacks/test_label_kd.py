"""Attacks that see the top class alone."""

import torch
from small_batches import batch, logits
from torch.nn import functional as F

from attacks.labels.label_kd import LabelKD
from attacks.labels.label_mixup import LabelMixup
from teachers.surface import Answers
from teachers.training import Batch, Outputs


def test_label_attacks_use_nothing_but_the_top_class() -> None:
    z, now = logits(0), batch()
    told = now.answers.labels
    hard = Batch(now.x, now.labels, Answers("label", told))
    for loss in (LabelKD(smoothing=0.2).loss, LabelMixup().loss):
        torch.testing.assert_close(loss(Outputs(z), now, 0), loss(Outputs(z), hard, 0))
    expected = F.cross_entropy(z, told, label_smoothing=0.2)
    torch.testing.assert_close(LabelKD(smoothing=0.2).loss(Outputs(z), now, 0), expected)


def test_mixed_truth_weighs_both_labels() -> None:
    now = Batch(
        torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), partner=torch.tensor([2, 1]), weight=torch.tensor([0.75, 0.6])
    )
    expected = torch.tensor([[0.75, 0, 0.25], [0, 1, 0]])
    torch.testing.assert_close(now.truth(3), expected)
