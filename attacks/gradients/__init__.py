"""Attacks that use input gradients: those that an API returns, and those estimated from its answers."""

from __future__ import annotations

from attacks.base import Attack
from attacks.gradients.backward_kd import BackwardKD
from attacks.gradients.backward_kd_zo import BackwardKDZO
from attacks.gradients.kdiga import KDIGA
from attacks.gradients.megex import MEGEX

ATTACKS: tuple[type[Attack], ...] = (KDIGA, BackwardKD, BackwardKDZO, MEGEX)
