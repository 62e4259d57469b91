"""Attacks that first find out what a teacher's answers mean, and then distil."""

from __future__ import annotations

from attacks.adaptive.adaptive import Adaptive
from attacks.base import Attack

ATTACKS: tuple[type[Attack], ...] = (Adaptive,)
