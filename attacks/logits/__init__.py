"""Attacks that have the original images and get probabilities."""

from __future__ import annotations

from attacks.base import Attack
from attacks.logits.ckd import CKD
from attacks.logits.ctkd import CTKD
from attacks.logits.dist import DIST
from attacks.logits.dkd import DKD
from attacks.logits.function_matching import FunctionMatching
from attacks.logits.kendall import Kendall
from attacks.logits.lskd import LSKD
from attacks.logits.mlkd import MLKD
from attacks.logits.mse import MSE
from attacks.logits.nkd import NKD
from attacks.logits.rld import RLD
from attacks.logits.rolewise import RoleWise
from attacks.logits.soft_kd import SoftKD
from attacks.logits.ttm import TTM

ATTACKS: tuple[type[Attack], ...] = (
    SoftKD,
    DKD,
    LSKD,
    NKD,
    DIST,
    MLKD,
    CTKD,
    MSE,
    TTM,
    CKD,
    RoleWise,
    FunctionMatching,
    RLD,
    Kendall,
)
