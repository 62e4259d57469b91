"""HTC: full weight on the labels, and a temperature that flattens misleading peaks (Jandial et al., ECCV 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attacks.base import Attack, Lab
from attacks.losses import kd, soft_target, supervised
from teachers.fidelity import Fidelity
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class HTC(Attack):
    """CE + α T² KL(p_t^T ‖ p_s^T), T high."""

    name = "htc"
    title = "High-temperature composition"
    paper = "Jandial, Khasbage, Pal, Balasubramanian & Krishnamurthy, ECCV 2022, arXiv 2210.11728"
    published = "with SCM, up to 68.63 points more from a nasty teacher (authors' README)"
    fidelity = Fidelity(note="no public text gives its values; SCM, which the paper adds to it, is absent")
    needs = "probs"
    holds = "original"
    views = "crop"

    temperature: float = 20.0
    weight: float = 1.0  # α

    @classmethod
    def grid(cls) -> tuple[HTC, ...]:
        return cls(), cls(temperature=8.0), cls(temperature=50.0), cls(temperature=8.0, weight=4.0), cls(weight=0.0)

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        distilled = kd(outputs.logits, soft_target(batch, self.temperature), self.temperature)
        return supervised(outputs, batch) + self.weight * distilled
