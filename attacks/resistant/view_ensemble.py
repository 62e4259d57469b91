"""View ensemble: average the teacher's answers over all views of an image, which reduces their noise.

Averaging over transformed copies of one input follows data distillation (Radosavovic et al., CVPR 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attacks.base import Attack, Lab
from attacks.lazy import LazyAnswers, rows_about
from attacks.logits.soft_kd import SoftKD
from teachers.surface import Answers
from teachers.training import Student


@dataclass(frozen=True, kw_only=True)
class ViewEnsemble(Attack):
    """(1 − α) CE + α T² KL(p̄_t^T ‖ p_s^T) on every view, p̄_t the mean answer over the V stored views of the image."""

    name = "view-ensemble"
    title = "Teacher averaged over the views of an image"
    paper = "Radosavovic, Dollár, Girshick, Gkioxari & He, Data distillation, CVPR 2018, arXiv 1712.04440"
    needs = "probs"
    holds = "original"
    views = "crop"

    temperature: float = 4.0
    weight: float = 0.9  # α
    geometric: bool = True  # average logits instead of probabilities

    @classmethod
    def grid(cls) -> tuple[ViewEnsemble, ...]:
        return cls(), cls(temperature=2.0), cls(temperature=8.0), cls(geometric=False), cls(weight=0.1), cls(weight=0.0)

    def run(self, lab: Lab) -> Student:
        paid = lab.paid("crop")
        answers = paid.completed(ensemble(lab.told(paid), paid.views, geometric=self.geometric))
        return lab.fit(lab.stream("crop", answers), SoftKD(temperature=self.temperature, weight=self.weight).loss)


def ensemble(answers: Answers, views: int, *, geometric: bool) -> LazyAnswers:
    """Replace every view's answer by the mean over the image's views; view-major in and out, (V·N, K)."""
    images = len(answers) // views

    def read(index: Tensor) -> Tensor:
        told = answers[rows_about(index % images, views, images)]
        rows = told.logits() if geometric else told.log_probs().exp()
        mean = rows.reshape(views, -1, rows.shape[1]).mean(0)  # (B, K)
        return (mean if geometric else mean.log()).log_softmax(-1)

    return LazyAnswers(read, len(answers))
