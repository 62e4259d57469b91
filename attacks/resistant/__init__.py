"""Attacks for teachers that resist distillation: they use the information that such a teacher cannot hide."""

from __future__ import annotations

from attacks.base import Attack
from attacks.resistant.avg import AVG
from attacks.resistant.htc import HTC
from attacks.resistant.inversion import Inversion
from attacks.resistant.mkd import MKD
from attacks.resistant.reopt import Reopt
from attacks.resistant.skeptical import Skeptical
from attacks.resistant.view_ensemble import ViewEnsemble

ATTACKS: tuple[type[Attack], ...] = (AVG, HTC, Inversion, MKD, Reopt, Skeptical, ViewEnsemble)
