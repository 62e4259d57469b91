"""MAZE: zeroth-order gradient estimation with experience replay (Kariyappa, Prakash & Qureshi, CVPR 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from attacks.data_free.zeroth_order import ZerothOrder
from teachers.fidelity import PUBLIC, Fidelity
from teachers.surface import Answers


@dataclass(frozen=True, kw_only=True)
class MAZE(ZerothOrder):
    """max over G, min over S of KL(teacher ‖ student); m directions give G's gradient, S also replays old answers."""

    name = "maze"
    title = "MAZE"
    paper = "Kariyappa, Prakash & Qureshi, CVPR 2021, arXiv 2005.03161"
    published = "0.91 to 0.99 of the target's accuracy on four data sets (abstract)"
    fidelity = Fidelity(source=PUBLIC, note="the game matches; the default has fewer queries and directions")
    needs = "probs"
    holds = "no data"

    queries: int = 50_000
    batch: int = 32  # 128 for the paper's budget: with few queries there are few steps
    fresh: int = 5
    replay: int = 10
    lr: float = 0.1
    generator_lr: float = 1e-4
    adam: bool = False
    directions: int = 1  # 10 in the paper, which would leave half as many answers for the student
    epsilon: float = 1e-3
    shared: bool = True

    @classmethod
    def presets(cls) -> Mapping[str, MAZE]:
        return {"paper": cls(queries=5_000_000, batch=128, directions=10)}

    def divergence(self, logits: Tensor, answers: Answers) -> Tensor:
        log_s = F.log_softmax(logits, -1)
        return F.kl_div(log_s, answers.log_probs().exp(), reduction="none").sum(-1)
