"""The LS student: label smoothing as torch has it."""

import torch
from small_batches import batch, logits
from torch.nn import functional as F

from attacks.controls.ls import LS
from teachers.task import UNLABELLED
from teachers.training import Outputs


def test_ls_smooths_as_torch_does_and_leaves_unlabelled_images_out() -> None:
    z, now = logits(0), batch()
    expected = F.cross_entropy(z, now.labels, label_smoothing=0.3)
    torch.testing.assert_close(LS(smoothing=0.3).loss(Outputs(z), now, 0), expected, check_dtype=False)
    some = batch(labels=[0, UNLABELLED, 2, UNLABELLED, 4, 0, 1])
    known = some.labels != UNLABELLED
    expected = F.cross_entropy(z[known], some.labels[known], label_smoothing=0.3)
    torch.testing.assert_close(LS(smoothing=0.3).loss(Outputs(z), some, 0), expected, check_dtype=False)
