"""DFME: a generator searches for images on which student and teacher disagree (Truong et al., CVPR 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from attacks.data_free.zeroth_order import ZerothOrder
from teachers.surface import Answers


@dataclass(frozen=True, kw_only=True)
class DFME(ZerothOrder):
    """max over G, min over S of Σ_k |z_k − (log p_k − mean log p)|; forward differences give G's gradient.

    The learning rate is for a sum over classes: the published 0.1, for a mean over ten classes, becomes 0.01.
    """

    name = "dfme"
    title = "Data-free model extraction"
    paper = "Truong, Maini, Walls & Papernot, CVPR 2021, arXiv 2011.14779"
    needs = "probs"
    holds = "no data"

    queries: int = 50_000
    batch: int = 64  # 256 for the paper's budget: with few queries there are few steps
    fresh: int = 5
    replay: int = 10  # none in the paper: answers are scarce here
    lr: float = 0.01
    generator_lr: float = 1e-4
    directions: int = 1
    epsilon: float = 1e-3
    shared: bool = False

    @classmethod
    def presets(cls) -> Mapping[str, DFME]:
        return {"paper": cls(queries=20_000_000, batch=256, replay=0)}

    def divergence(self, logits: Tensor, answers: Answers) -> Tensor:
        return (logits - answers.logits()).abs().sum(-1)
