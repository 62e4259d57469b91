"""No-teacher baselines: what an attacker can train without asking a teacher."""

from __future__ import annotations

from attacks.base import Control
from attacks.controls.ce import CE
from attacks.controls.dist_ls import DistLS
from attacks.controls.ls import LS
from attacks.controls.lw_kd import LWKD
from attacks.controls.self_kd import SelfKD
from attacks.controls.tempered_ce import TemperedCE
from attacks.controls.tf_kd import TfKD

CONTROLS: dict[str, type[Control]] = {
    control.name: control for control in (LS, CE, TfKD, LWKD, SelfKD, DistLS, TemperedCE)
}
