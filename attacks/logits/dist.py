"""DIST: match correlations instead of probabilities (Huang et al., NeurIPS 2022, arXiv 2205.10536)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.losses import soft_target, supervised
from teachers.fidelity import Fidelity
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class DIST(Attack):
    """CE + β τ² mean_i (1 − r(p_t[i], p_s[i])) + γ τ² mean_k (1 − r(p_t[:, k], p_s[:, k])), r Pearson's correlation.

    The first compares the classes of one image, the second the images of a batch for one class: both are independent of
    a teacher's scale and offset.
    """

    name = "dist"
    title = "Distillation from a stronger teacher"
    paper = "Huang, You, Wang, Qian & Xu, NeurIPS 2022, arXiv 2205.10536"
    published = "ImageNet, ResNet-34 to 18: 72.07 %, KD 71.21 %, without teacher 69.76 % (authors' README)"
    fidelity = Fidelity(
        source="hunto/image_classification_sota dist_cifar.yaml",
        settings=(4,),
        note="the formula matches; place 5 is for CIFAR-100",
    )
    needs = "probs"
    holds = "original"
    views = "crop"

    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 1.0  # τ

    @classmethod
    def grid(cls) -> tuple[DIST, ...]:
        published = cls(beta=2.0, gamma=2.0, temperature=4.0)  # for CIFAR-100
        return (
            cls(),
            cls(temperature=4.0),
            cls(temperature=2.0),
            cls(beta=2.0, gamma=2.0),
            published,
            cls(beta=0.0, gamma=0.0),
        )

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return supervised(outputs, batch) + self.distilled(outputs.logits, batch)

    def distilled(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return τ² (β inter-class + γ intra-class)."""
        p_s, p_t = F.softmax(logits / self.temperature, -1), soft_target(batch, self.temperature)
        inter, intra = 1 - pearson(p_t, p_s).mean(), 1 - pearson(p_t.T, p_s.T).mean()
        return self.temperature**2 * (self.beta * inter + self.gamma * intra)


def pearson(a: Tensor, b: Tensor, eps: float = 1e-6) -> Tensor:
    """Return the correlation of each pair of rows, (N,); zero, without a gradient, if either row is constant."""
    return F.cosine_similarity(a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True), -1, eps)
