"""The averager: class means as targets."""

import torch
from small_batches import K, logits
from torch.nn import functional as F

from attacks.contract import CLASSES, SHAPE, tiny_lab
from attacks.logits.soft_kd import SoftKD
from attacks.resistant.avg import AVG, class_means
from teachers.surface import FULL, Answers


def test_averager_targets_are_class_means() -> None:
    answers = Answers("probs", F.log_softmax(logits(1), -1))
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    means = class_means(answers, labels, 2.0)
    p = F.softmax(logits(1) / 2, -1)
    torch.testing.assert_close(means[1], p[2:5].mean(0), check_dtype=False)
    torch.testing.assert_close(means[4], torch.full((K,), 1 / K), check_dtype=False)


def test_averager_equals_kd_when_a_class_has_one_answer() -> None:
    """Where CMI is zero the averager loses nothing."""
    lab = tiny_lab(FULL, seed=3)
    labels = torch.from_numpy(lab.pool.labels)
    rows = F.log_softmax(torch.eye(CLASSES) * 2, -1)[labels].repeat(2, 1)
    lab.answers = lambda *a, **k: Answers("probs", rows)  # type: ignore[method-assign]
    averaged, again = AVG().attempt(lab), SoftKD().attempt(lab)
    x = torch.rand(4, *SHAPE)
    torch.testing.assert_close(averaged.network(x), again.network(x), rtol=1e-4, atol=1e-5)
