"""An attack's own loss on labels alone: every built-in attack learns from a teacher that answers one class with 1."""

import pytest
import torch

from attacks.base import Attack
from attacks.contract import CLASSES, SHAPE, tiny_lab
from attacks.registry import OURS
from audit.plan.design import TRUTHS
from teachers.oracle import Box, Oracle
from teachers.surface import FULL
from teachers.synthetic import LabelMemory, SmoothedTruth

SWEPT = [attack for attack in OURS if attack.needs == "probs" and attack.holds == "original"]


def weights(attack: Attack, smoothing: float) -> torch.Tensor:
    lab = tiny_lab(FULL, 0)
    truth = SmoothedTruth(LabelMemory(lab.pool, lab.recipe.views), CLASSES, smoothing)
    lab._oracle = Oracle(Box(truth, FULL), surface=FULL, shape=SHAPE, budget=2_000)
    return torch.cat([p.flatten() for p in attack.attempt(lab).network.parameters()])


@pytest.mark.parametrize("attack", SWEPT, ids=lambda attack: attack.name)
def test_every_smoothing_of_the_labels_trains_a_student(attack: type[Attack]) -> None:
    found = [weights(attack(), smoothing) for smoothing in TRUTHS]
    assert all(torch.isfinite(student).all() for student in found)
    assert any(not torch.equal(found[0], student) for student in found[1:]), "the smoothing changes the student"
