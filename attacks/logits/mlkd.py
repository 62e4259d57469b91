"""MLKD: match images, batches and classes over several temperatures (Jin, Wang & Lin, CVPR 2023)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.losses import kd, soft_target, supervised
from teachers.training import Batch, Outputs, Student

TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)
CROWD = 12.8  # images per class in a batch of 128 with ten classes, the most for which it was measured


@dataclass(frozen=True, kw_only=True)
class MLKD(Attack):
    """c (CE_weak + CE_strong) + w mean_T [KD of the strong view + masked (KD + both Grams) of the weak one].

    KD is T² KL. The batch Gram compares P Pᵀ (B, B) per image, the class Gram Pᵀ P (K, K) per class, squares summed and
    divided by B and K. The mask keeps the images, and the classes, whose confidence is at most the median.
    A class Gram sums over the B/K images of a class (0.64 in the paper), so its square grows with (B/K)². It is scaled
    down to the value for `CROWD` images per class: with two classes it would dominate the labels and all other terms.
    The paper sums over temperatures with a quarter of our learning rate; the sum at our rate makes students diverge.
    """

    name = "mlkd"
    title = "Multi-level logit distillation"
    paper = "Jin, Wang & Lin, CVPR 2023"
    published = "CIFAR-100, ResNet-32x4 to 8x4: 77.08 %, KD 73.33 % (README of logit standardisation)"
    needs = "probs"
    holds = "original"
    version = 2
    views = "crop+strong"

    weight: float = 0.9
    supervised: float = 0.1
    masked: bool = True

    @classmethod
    def grid(cls) -> tuple[MLKD, ...]:
        return (
            cls(),
            cls(supervised=1.0),
            cls(weight=0.3, supervised=1.0),
            cls(masked=False),
            cls(weight=0.0, supervised=0.5),
        )

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop+strong", lab.answers("crop+strong")), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        assert batch.answers is not None
        half = len(outputs.logits) // 2  # first the weak views, then the strong views of the same images
        weak = replace(batch, answers=batch.answers[:half])
        strong = replace(batch, answers=batch.answers[half:])
        distilled = sum(
            (
                self.levels(outputs.logits[:half], weak, t) + kd(outputs.logits[half:], soft_target(strong, t), t)
                for t in TEMPERATURES
            ),
            outputs.logits.new_zeros(()),
        )
        return 2 * self.supervised * supervised(outputs, batch) + self.weight * distilled / len(TEMPERATURES)

    def levels(self, logits: Tensor, batch: Batch, temperature: float) -> Tensor:
        """Return KD, batch Gram and class Gram of one view at one temperature."""
        sure = soft_target(batch, 1.0)
        images, classes = self._mask(sure.amax(-1)), self._mask(sure.sum(0))  # (B,), (K,)
        p_t, p_s = soft_target(batch, temperature), F.softmax(logits / temperature, -1)
        log_s = F.log_softmax(logits / temperature, -1)
        instance = temperature**2 * F.kl_div(log_s, p_t, reduction="none").sum(-1)
        between_images = (p_t @ p_t.T - p_s @ p_s.T).square().sum(-1)
        crowd = min(1.0, CROWD * logits.shape[1] / len(logits)) ** 2
        between_classes = (p_t.T @ p_t - p_s.T @ p_s).square().sum(-1) * crowd
        return (images * (instance + between_images)).mean() + (classes * between_classes).mean()

    def _mask(self, confidence: Tensor) -> Tensor:
        """Return 1 where confidence is at most its median, else 0; without `masked`, 1 everywhere."""
        kept = confidence <= confidence.quantile(0.5) if self.masked else confidence == confidence
        return kept.to(confidence.dtype)
