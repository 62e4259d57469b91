"""Attacks that need only the teacher's top class."""

from __future__ import annotations

from attacks.base import Attack
from attacks.labels.activethief import ActiveThief
from attacks.labels.copycat import Copycat
from attacks.labels.jbda import JBDA
from attacks.labels.label_kd import LabelKD
from attacks.labels.label_mixup import LabelMixup

ATTACKS: tuple[type[Attack], ...] = (LabelKD, LabelMixup, Copycat, ActiveThief, JBDA)
