"""Every attack against the public contract."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from attacks import registry
from attacks.base import Attack, draw
from attacks.contract import check_attack, check_declaration, tiny_lab
from attacks.controls.ls import LS
from attacks.data_free.noise import Noise
from attacks.logits.soft_kd import SoftKD
from attacks.surrogate.knockoff import Knockoff
from teachers.errors import BudgetExceeded
from teachers.surface import FULL, Surface
from teachers.task import Pool


@pytest.mark.parametrize("attack", registry.attacks().values(), ids=lambda a: a.name)
def test_every_attack_keeps_the_contract(attack: type[Attack]) -> None:
    check_attack(attack)


def test_the_contract_catches_an_attack_without_a_paper() -> None:
    class Nameless(SoftKD):
        paper = ""

    with pytest.raises(AssertionError, match="paper"):
        check_declaration(Nameless)


def test_a_lab_is_gone_with_its_student() -> None:
    """What waits for the garbage collector keeps memory of the device, and is there for the next attack to find."""
    SoftKD().attempt(tiny_lab(FULL, seed=1))  # what the first student imports may hold on to its frames
    gc.disable()
    try:
        for technique in (SoftKD(), LS(), replace(Knockoff(), queries=48)):
            lab = tiny_lab(FULL, seed=1)
            network = weakref.ref(technique.attempt(lab).network)
            del lab
            assert network() is None, technique.name
    finally:
        gc.enable()


def test_a_draw_repeats_nothing_and_depends_on_its_seed() -> None:
    pool = Pool(np.zeros((50, 1, 2, 2), np.uint8))
    first, other = draw(pool, 20, 0), draw(pool, 20, 1)
    assert len(set(first.tolist())) == 20
    assert first.tolist() != other.tolist()
    assert draw(pool, 99, 0).tolist() == list(range(50))


@pytest.mark.parametrize("attack", [Knockoff(queries=48), Noise(queries=48)])
def test_query_attacks_ask_once_and_stay_within_a_smaller_budget(attack: Attack) -> None:
    lab = tiny_lab(FULL, 0)
    attack.attempt(lab)
    assert lab.oracle.charged == 48
    tight = tiny_lab(FULL, 0, budget=30)
    attack.attempt(tight)
    assert tight.oracle.charged == 30


def test_an_attack_past_its_budget_is_stopped_before_it_asks() -> None:
    lab = tiny_lab(Surface("probs"), 0, budget=59)
    lab.pool = replace(lab.pool, labels=None)  # of such images an attacker knows no answer
    with pytest.raises(BudgetExceeded, match="120 more queries"):
        SoftKD().attempt(lab)
    assert lab.oracle.charged == 0


def test_a_control_is_handed_no_oracle() -> None:
    lab = tiny_lab(FULL, 0)
    lab._oracle = None
    LS().attempt(lab)
    with pytest.raises(PermissionError, match="may not query a teacher"):
        SoftKD().attempt(lab)


def test_an_attack_must_return_the_student_it_trained_last() -> None:
    class Stale(SoftKD):
        def run(self, lab):  # type: ignore[no-untyped-def]
            first = super().run(lab)
            super().run(lab)
            return first

    with pytest.raises(TypeError, match=r"last call of lab\.fit"):
        Stale().attempt(tiny_lab(FULL, 0))
