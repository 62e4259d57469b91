"""NKD: normalise the non-target part of KD (Yang et al., ICCV 2023, arXiv 2303.13005)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.logits.dkd import others
from attacks.losses import soft_target, supervised, target_class
from teachers.fidelity import Fidelity
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class NKD(Attack):
    """CE − p_t[y] log p_s[y] − γ T² Σ_{j≠y} N(p_t^T)_j log N(p_s^T)_j, N renormalises over the non-target classes."""

    name = "nkd"
    title = "Normalised knowledge distillation"
    paper = "Yang, Zeng, Li, Zhang, Yuan & Li, ICCV 2023, arXiv 2303.13005"
    published = "ImageNet, ResNet-34 to 18: 71.96 %, without teacher 69.90 % (authors' README)"
    fidelity = Fidelity(
        source="yzd-v/cls_KD configs/distillers/cifar100/res34_distill_res18_cifar.py",
        default=True,
        settings=(4,),
        note="the default is for ImageNet, place 5 for CIFAR-100",
    )
    needs = "probs"
    holds = "original"
    views = "crop"

    gamma: float = 1.5
    temperature: float = 1.0

    @classmethod
    def grid(cls) -> tuple[NKD, ...]:
        published = cls(temperature=3.0, gamma=3.5)  # for CIFAR-100; the default is for ImageNet
        return cls(), cls(temperature=2.0), cls(temperature=4.0, gamma=0.5), cls(gamma=5.0), published, cls(gamma=0.0)

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return supervised(outputs, batch) + self.distilled(outputs.logits, batch)

    def distilled(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return both parts; for an image without a label, the teacher's top class is the target."""
        y = target_class(batch)[:, None]  # (B, 1)
        rest = others(y[:, 0], logits.shape[1])  # (B, K−1)
        target = -(soft_target(batch, 1.0).gather(-1, y) * F.log_softmax(logits, -1).gather(-1, y)).mean()
        soft = soft_target(batch, self.temperature).gather(-1, rest)  # (B, K−1)
        # a row that shows only the target class stays zero and contributes nothing
        soft = soft / soft.sum(-1, keepdim=True).clamp(min=1e-30)
        log_s = F.log_softmax(logits.gather(-1, rest) / self.temperature, -1)
        return target - self.gamma * self.temperature**2 * (soft * log_s).sum(-1).mean()
