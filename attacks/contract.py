"""The public contract test, which every registered attack must pass, also those of plug-ins.

from attacks.contract import check_attack
check_attack(MyAttack)
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from attacks.base import Attack, Holds, Lab
from teachers.oracle import Box, Oracle
from teachers.surface import Kind, Surface
from teachers.task import Augment, Pool
from teachers.training import Recipe, Student

CLASSES, SHAPE = 3, (1, 8, 8)
ALL, TIGHT = 60, 25  # images of the attacker; queries, and beyond one of each image


def check_attack(attack: type[Attack]) -> None:
    """Check that an attack keeps the contract on a tiny task.

    Raises AssertionError with a sentence that names what is wrong.
    """
    check_declaration(attack)
    for surface in map(Surface, (*get_args(Kind), "top:2+round:1")):
        if surface.offers(attack.needs):
            check_run(attack, surface)
    if attack.holds == "original" and attack.views:
        check_tight(attack)


def check_declaration(attack: type[Attack]) -> None:
    """Check an attack's class attributes, its settings, and that it is a frozen dataclass."""
    for attribute in ("name", "title", "paper", "needs", "holds"):
        assert getattr(attack, attribute, None), f"{attack.__name__} has no {attribute}"
    assert attack.needs in get_args(Kind), f"{attack.name}: needs must be one of {get_args(Kind)}"
    assert attack.holds in get_args(Holds), f"{attack.name}: holds must be one of {get_args(Holds)}"
    assert is_dataclass(attack), f"{attack.name} must be a frozen, keyword-only dataclass"
    assert all(f.kw_only for f in fields(attack)), f"{attack.name}: hyperparameters must be keyword-only"
    grid = attack.grid()
    assert grid[0] == attack(), f"{attack.name}: the first setting of grid() must be the default"
    assert 1 <= len(grid) <= 8, f"{attack.name}: grid() has {len(grid)} settings; at most 8 are tuned over"
    assert len(set(grid)) == len(grid), f"{attack.name}: grid() repeats a setting"
    names = {f.name for f in fields(attack)}
    assert attack.later <= names, f"{attack.name}: `later` names {sorted(attack.later - names)}, which are no fields"
    for field in fields(attack):
        try:
            setattr(grid[0], field.name, None)
        except FrozenInstanceError:
            continue
        raise AssertionError(f"{attack.name} must be frozen")


def check_run(attack: type[Attack], surface: Surface) -> None:
    """Check that an attack trains a student within its budget, and that the same seed gives the same student."""
    setting = _small(attack())
    first, oracle = _attempt(setting, surface, seed=1)
    again, _ = _attempt(setting, surface, seed=1)
    other, _ = _attempt(setting, surface, seed=2)
    assert 0 < oracle.charged <= (oracle.budget or 0), f"{attack.name} made no query, or more queries than its budget"
    assert _same(first, again), f"{attack.name}: the same seed gave another student"
    assert not _same(first, other), f"{attack.name}: another seed gave the same student"
    assert not first.network.training, f"{attack.name}: the student must be in eval mode"
    with torch.no_grad():
        logits = first.network(torch.rand(5, *SHAPE))
    logits = getattr(logits, "logits", logits)
    assert logits.shape == (5, CLASSES), f"{attack.name}: the student gives {tuple(logits.shape)} for 5 images"
    assert torch.isfinite(logits).all(), f"{attack.name}: the student's logits are not finite"


def check_tight(attack: type[Attack]) -> None:
    """Check that an attack on original images trains where a budget pays for answers about a part of them alone."""
    for budget in (TIGHT, ALL + TIGHT):
        lab = tiny_lab(Surface(attack.needs), 0, budget)
        student = _small(attack()).attempt(lab)
        assert lab.oracle.charged <= budget, f"{attack.name} made more queries than its budget"
        finite = all(bool(torch.isfinite(p).all()) for p in student.network.parameters())
        assert finite, f"{attack.name}: with a budget of {budget} for {ALL} images the student is not finite"


def tiny_lab(surface: Surface, seed: int, budget: int | None = 2_000, *, original: bool = True) -> Lab:
    """Return a lab over a tiny task whose teacher is a fixed linear network."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(ALL) % CLASSES)
    images = rng.integers(0, 120, (ALL, *SHAPE)) + 60 * labels[:, None, None, None]
    pool = Pool(images.astype(np.uint8), labels.astype(np.int64), Augment(pad=1))
    pool = pool if original else pool.take(np.arange(0))
    surrogate = Pool(rng.integers(0, 256, (80, *SHAPE), dtype=np.uint8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    oracle = Oracle(Box(_Sharp(teacher), surface), surface=surface, shape=SHAPE, budget=budget)
    recipe = Recipe("strided-4-4", steps=6, batch=16, views=2)
    return Lab(oracle=oracle, pool=pool, surrogate=surrogate, classes=CLASSES, recipe=recipe, seed=seed)


class _Sharp(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = 4 * self.network(x)
        return scaled


def _small(attack: Attack) -> Attack:
    if any(f.name == "queries" for f in fields(attack)):
        return replace(attack, queries=48)  # type: ignore[call-arg]  # checked above
    return attack


def _attempt(attack: Attack, surface: Surface, seed: int) -> tuple[Student, Oracle]:
    lab = tiny_lab(surface, seed, original=attack.holds == "original")
    return attack.attempt(lab), lab.oracle


def _same(a: Student, b: Student) -> bool:
    pairs = zip(a.network.state_dict().values(), b.network.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)
