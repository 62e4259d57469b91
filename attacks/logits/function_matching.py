"""Function matching: patient and consistent distillation (Beyer et al., CVPR 2022, arXiv 2106.05237)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from attacks.base import Attack, Lab
from attacks.losses import kd, soft_target
from teachers.fidelity import Fidelity
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class FunctionMatching(Attack):
    """T² KL(p_t^T ‖ p_s^T) only, on many mixed views shared by teacher and student, for several times as many steps.

    No label is used. The LS control is trained for as many steps on the same views.
    """

    name = "function-matching"
    title = "Patient and consistent distillation"
    paper = "Beyer, Zhai, Royer, Markeeva, Anil & Kolesnikov, CVPR 2022, arXiv 2106.05237"
    published = "ImageNet, ResNet-50 student: 82.8 % (abstract)"
    fidelity = Fidelity(
        source="google-research/big_vision big_vision/configs/proj/distill/bigsweep_*.py",
        default=True,
        settings=(1, "t5", "t10"),
        note="temperatures of the published sweep; the authors train far longer",
    )
    needs = "probs"
    holds = "original"

    temperature: float = 2.0
    kind: str = "mixup"  # kind of view
    looks: int = 16  # views per image
    patience: float = 3.0  # multiple of the recipe's steps

    @classmethod
    def grid(cls) -> tuple[FunctionMatching, ...]:
        return cls(), cls(temperature=1.0)

    @classmethod
    def presets(cls) -> Mapping[str, Attack]:
        """Return other temperatures: frozen suites tune over the whole grid, which thus cannot grow."""
        return {f"t{t}": cls(temperature=float(t)) for t in (4, 5, 10)}

    def run(self, lab: Lab) -> Student:
        answers = lab.answers(self.kind, views=self.looks)
        recipe = replace(lab.recipe, steps=round(self.patience * lab.recipe.steps), views=self.looks)
        return lab.fit(lab.stream(self.kind, answers, views=self.looks), self.loss, recipe)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return kd(outputs.logits, soft_target(batch, self.temperature), self.temperature)
