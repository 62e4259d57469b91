"""Attacks that ask about images from outside the task: Knockoff Nets."""

from __future__ import annotations

from attacks.base import Attack
from attacks.surrogate.knockoff import Knockoff
from attacks.surrogate.knockoff_adaptive import KnockoffAdaptive

ATTACKS: tuple[type[Attack], ...] = (Knockoff, KnockoffAdaptive)
