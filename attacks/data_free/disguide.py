"""DisGUIDE: a generator searches for images on which two clones disagree (Rosenthal et al., AAAI 2023)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.base import Lab
from attacks.data_free.generator import Game, GameAttack, pixels
from teachers.fidelity import PUBLIC, Fidelity
from teachers.networks import Shape
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class DisGUIDE(GameAttack):
    """min over both S of Σ_k |z_k − (log p_k − mean log p)|, or of the cross entropy if answers are labels;

    min over G of −mean_x Σ_k std(p₁, p₂) + λ Σ_k p̄_k log p̄_k, p̄ the mean over images and clones: no queries. λ is
    for a sum over classes: the published 0.2 and 0.04, for means over ten and a hundred classes, become 2 and 4. So is
    the clones' rate: the published 0.03 becomes 0.003 for ten classes, and is K/10 times too high for K. The preset
    `mean` has the mean with 0.03: it steps as the sum does with 0.003 · 10/K. The first clone is the student that is
    compared.
    """

    name = "disguide"
    title = "Disagreement-guided data-free extraction"
    paper = "Rosenthal, Enouen, Pham & Tan, AAAI 2023"
    published = "up to 3.42 points on CIFAR-10 and 18.48 on CIFAR-100 over earlier attacks (abstract)"
    fidelity = Fidelity(
        source=PUBLIC,
        default=False,
        settings=("mean",),
        note="the loss of the generator matches; the default sums over classes at a rate for ten of them",
    )
    needs = "label"
    holds = "no data"
    later = frozenset({"mean"})

    queries: int = 50_000
    batch: int = 64  # 256 for the paper's budget: with few queries there are few steps
    fresh: int = 1
    replay: int = 3
    lr: float = 0.003
    generator_lr: float = 1e-4
    diversity: float = 4.0
    mean: bool = False  # of the students' loss over classes, as published, in place of the sum

    @classmethod
    def presets(cls) -> Mapping[str, DisGUIDE]:
        return {"paper": cls(queries=10_000_000, batch=256), "mean": cls(mean=True, lr=0.03)}

    def run(self, lab: Lab) -> Student:
        dispute = Dispute(lab, self)
        return lab.fit(dispute, self.loss, replace(dispute.recipe, wrap=f"{__name__}:clones"))

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        answers = batch.answers
        assert answers is not None
        both = (outputs.logits, *outputs.heads)
        if answers.kind == "label":
            return torch.stack([F.cross_entropy(z, answers.labels) for z in both]).sum()
        apart = [(z - answers.logits()).abs() for z in both]
        return torch.stack([(row.mean(-1) if self.mean else row.sum(-1)).mean() for row in apart]).sum()


class Dispute(Game):
    """A game in which the generator is trained on the clones only, without queries."""

    def __init__(self, lab: Lab, rules: DisGUIDE) -> None:
        super().__init__(lab, rules, asked=0)
        self.diversity = rules.diversity

    def improve(self, student: nn.Module) -> None:
        outputs = student(pixels(self.imagine()))
        loss = dispute(torch.stack([outputs.logits, *outputs.heads]), self.diversity)
        self.step_generator(torch.autograd.grad(loss, list(self.generator.parameters())))


def dispute(logits: Tensor, diversity: float) -> Tensor:
    """Return −mean_x Σ_k std(p₁, p₂) + λ Σ_k p̄_k log p̄_k of clones' logits, (2, B, K)."""
    p = F.softmax(logits, -1)
    mean = p.mean((0, 1)).clamp(min=1e-8)  # keeps the gradient finite for a class that never occurs
    return diversity * (mean * mean.log()).sum() - p.std(0).sum(-1).mean()


class Clones(nn.Module):
    """Two networks that get the same images."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.first(x), (self.second(x),))


def clones(network: nn.Module, classes: int, shape: Shape) -> nn.Module:
    """Return a network together with a second one of the same architecture and other initial weights."""
    second = copy.deepcopy(network)
    for module in second.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    return Clones(network, second)
