"""A rational attacker never ends below what labels alone give: the last setting of a grid learns from the labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from attacks import base, registry
from attacks.base import Attack
from attacks.contract import tiny_lab
from attacks.losses import supervised
from audit.plan.suite import EARLIER, STANDARD
from teachers.surface import FULL
from teachers.training import Batch, Objective, Outputs, Student

SEEING = {a.name: a for a in registry.OURS if a.holds == "original" and a.needs == "probs"}
WITHOUT = {  # attacks whose grid holds no such setting, and why
    "function-matching": "it has no labels: its images are mixtures, and its loss has no other part",
    "skeptical": "frozen suites would try a third setting; its auxiliary heads have the labels' loss in any case",
    "backward-kd-zo": "frozen suites would try a second setting; its loss has no labels",
}
PARTLY = {"nkd": "its loss weighs the cross entropy of an image by 1 + p_t[y]"}


class Compared:
    """An objective that compares its gradient with that of the cross entropy with the labels, row by row."""

    def __init__(self, objective: Objective) -> None:
        self._objective: Any = objective
        self.weights: list[Tensor] = []  # of the cross entropy of each image
        self.apart: list[float] = []  # what is left of the gradient without them

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objective, name)

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        loss: Tensor = self._objective(outputs, batch, step)
        (mine,) = torch.autograd.grad(loss, outputs.logits, retain_graph=True)
        (labels,) = torch.autograd.grad(supervised(outputs, batch), outputs.logits, retain_graph=True)
        weights = (mine * labels).sum(-1, keepdim=True) / labels.square().sum(-1, keepdim=True)
        self.weights.append(weights)
        self.apart.append(float((mine - weights * labels).abs().max()))
        return loss


def compared(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> Compared:
    """Return what the last objective of an attack did."""
    found: list[Compared] = []
    real = base.fit

    def fit(recipe: Any, stream: Any, objective: Objective, *more: Any, **named: Any) -> Student:
        found.append(Compared(objective))
        return real(recipe, stream, found[-1], *more, **named)

    monkeypatch.setattr(base, "fit", fit)
    attack.attempt(tiny_lab(FULL, seed=1))
    return found[-1]


@pytest.mark.parametrize("name", sorted(SEEING.keys() - WITHOUT.keys()))
def test_the_last_setting_of_a_grid_learns_from_the_labels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = SEEING[name].grid()
    assert EARLIER["standard"].settings < len(grid) <= STANDARD.settings, "earlier suites do not try it, today's do"
    found = compared(grid[-1], monkeypatch)
    assert max(found.apart) < 1e-6
    weights = torch.cat(found.weights)
    assert float(weights.min()) > 0.999
    assert float(weights.max()) < (2.001 if name in PARTLY else 1.001)


@pytest.mark.parametrize("name", sorted(SEEING.keys() - WITHOUT.keys() - {"adaptive"}))
def test_the_default_setting_learns_from_the_teacher(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can tell the two apart; the adaptive attack may find that the answers are too few to use."""
    found = compared(SEEING[name](), monkeypatch)
    weights = torch.cat(found.weights)
    assert max(found.apart) > 1e-6 or float(weights.std()) > 1e-3


@pytest.mark.parametrize("name", WITHOUT)
def test_what_has_no_such_setting_could_not_have_one_behind_what_frozen_suites_try(name: str) -> None:
    assert len(SEEING[name].grid()) < STANDARD.settings
