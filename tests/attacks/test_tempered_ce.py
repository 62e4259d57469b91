"""Tempered CE against torch's own cross entropy, its gradient in closed form, and what it is a part of."""

import pytest
import torch
from torch.nn import functional as F

from attacks import registry
from attacks.base import Control
from attacks.controls.ce import CE
from attacks.controls.ls import LS
from attacks.controls.tempered_ce import TemperedCE
from attacks.logits.soft_kd import SoftKD
from audit.plan.suite import BASELINES
from teachers.surface import Answers
from teachers.synthetic import smoothed
from teachers.task import UNLABELLED
from teachers.training import Batch, Outputs

B, K = 7, 5
Y = torch.tensor([0, 1, 2, 3, 4, 0, 1])


def logits() -> torch.Tensor:
    return torch.randn(B, K, generator=torch.Generator().manual_seed(0)) * 3


def batch(labels: torch.Tensor = Y) -> Batch:
    return Batch(torch.zeros(B, 1, 2, 2), labels)


def gradient(control: Control, labels: torch.Tensor = Y) -> torch.Tensor:
    z = logits().requires_grad_()
    return torch.autograd.grad(control.loss(Outputs(z), batch(labels), 0), z)[0]


@pytest.mark.parametrize("control", TemperedCE.grid(), ids=repr)
def test_it_is_the_cross_entropy_of_tempered_logits_times_the_square(control: TemperedCE) -> None:
    t, z = control.temperature, logits()
    expected = t * t * F.cross_entropy(z / t, Y, label_smoothing=control.smoothing)
    torch.testing.assert_close(control.loss(Outputs(z), batch(), 0), expected)


@pytest.mark.parametrize("control", TemperedCE.grid(), ids=repr)
def test_its_gradient_has_the_closed_form(control: TemperedCE) -> None:
    t, e = control.temperature, control.smoothing
    truth = (1 - e) * F.one_hot(Y, K) + e / K
    torch.testing.assert_close(gradient(control), t * (F.softmax(logits() / t, -1) - truth) / B)


def test_images_without_a_label_count_for_nothing() -> None:
    labels = Y.clone()
    labels[::2] = UNLABELLED
    known = labels != UNLABELLED
    expected = 4 * F.cross_entropy(logits()[known] / 2, Y[known])
    torch.testing.assert_close(TemperedCE().loss(Outputs(logits()), batch(labels), 0), expected)
    assert not gradient(TemperedCE(), labels)[~known].any()


def test_at_temperature_one_it_is_the_cross_entropy_and_the_ls_student() -> None:
    z = logits()
    for control, plain in ((TemperedCE(temperature=1.0), CE()), (TemperedCE(temperature=1.0, smoothing=0.1), LS())):
        torch.testing.assert_close(control.loss(Outputs(z), batch(), 0), plain.loss(Outputs(z), batch(), 0))


@pytest.mark.parametrize("temperature", [2.0, 4.0])
def test_it_is_soft_kd_of_a_teacher_that_knows_the_label_alone(temperature: float) -> None:
    """Where ε is 0, an attack's own loss on labels is this control, whatever the temperature of the answers."""
    told = batch()
    told = Batch(told.x, told.labels, Answers("probs", smoothed(Y, K, 0.0).log()))
    found = SoftKD(temperature=temperature, weight=1.0).loss(Outputs(logits()), told, 0)
    torch.testing.assert_close(found, TemperedCE(temperature=temperature).loss(Outputs(logits()), batch(), 0))


def test_it_is_found_by_name_and_is_a_control_of_the_standard_suite() -> None:
    assert registry.find("tempered-ce") is TemperedCE
    assert TemperedCE.name in BASELINES
    assert TemperedCE.grid()[0] == TemperedCE()
    assert len(set(TemperedCE.grid())) == 4
