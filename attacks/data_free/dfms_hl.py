"""DFMS-HL: DFMS with only the victim's top class (Sanyal et al., CVPR 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attacks.data_free.dfms import DFMS
from teachers.surface import Kind


@dataclass(frozen=True, kw_only=True)
class DFMSHL(DFMS):
    """Clone: CE with the victim's hard labels; the generator's loss uses only the clone, as in DFMS."""

    name = "dfms-hl"
    title = "Data-free model stealing with proxy images, hard labels"
    needs: ClassVar[Kind] = "label"
