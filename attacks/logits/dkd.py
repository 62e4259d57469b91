"""DKD: decouple KD into target-class and non-target-class parts (Zhao et al., CVPR 2022, arXiv 2203.08679)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.losses import kl, rising, standardise, target_class
from teachers.fidelity import Fidelity
from teachers.training import Batch, Student


@dataclass(frozen=True, kw_only=True)
class DKD(Attack):
    """CE + rising · T² (α TCKD + β NCKD), of z-scored logits if `standardised` (Sun et al., arXiv 2403.01427)."""

    name = "dkd"
    title = "Decoupled knowledge distillation"
    paper = "Zhao, Cui, Song, Qiu & Liang, CVPR 2022, arXiv 2203.08679"
    published = "CIFAR-100, ResNet-32x4 to 8x4: 76.32 %, KD 73.33 % (authors' README)"
    fidelity = Fidelity(
        source="megvii-research/mdistiller mdistiller/engine/cfg.py",
        default=True,
        settings=(4, 6),
        note=(
            "place 5: for ImageNet, yzd-v/cls_KD; place 7: on z-scores, as "
            "sunshangquan/logit-standardization-KD tools/train.py sets it"
        ),
    )
    needs = "probs"
    holds = "original"
    views = "crop"
    later = frozenset({"standardised"})

    temperature: float = 4.0
    alpha: float = 1.0
    beta: float = 8.0
    warmup: float = 20 / 240  # fraction of the steps in which the distilled part rises, as in the paper's schedule
    standardised: bool = False  # z-score the logits of both sides, as LSKD does

    @classmethod
    def grid(cls) -> tuple[DKD, ...]:
        weaker = cls(beta=2.0), cls(temperature=2.0), cls(temperature=2.0, beta=2.0)
        imagenet = cls(temperature=1.0, beta=0.5)
        published = cls(standardised=True, alpha=9.0, beta=81.0)  # z-scored: what the authors' script comes to
        labels = cls(alpha=0.0, beta=0.0)
        return cls(), *weaker, imagenet, cls(standardised=True, temperature=2.0), published, labels

    def run(self, lab: Lab) -> Student:
        loss = rising(self.distilled, self.warmup, lab.recipe.steps)
        return lab.fit(lab.stream("crop", lab.answers("crop")), loss)

    def distilled(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return T² (α TCKD + β NCKD); for an image without a label, the teacher's top class is the target."""
        assert batch.answers is not None
        y = target_class(batch)
        log_s, log_t = F.log_softmax(logits / self.temperature, -1), batch.answers.log_probs(self.temperature)
        if self.standardised:
            both = standardise(logits), standardise(batch.answers.logits())
            log_s, log_t = (F.log_softmax(z / self.temperature, -1) for z in both)
        tckd = kl(_binary(log_t, y), _binary(log_s, y))
        nckd = kl(_others(log_t, y), _others(log_s, y))
        return self.temperature**2 * (self.alpha * tckd + self.beta * nckd)


def others(y: Tensor, classes: int) -> Tensor:
    """Return the classes of every row but its target y (B,), (B, K−1): as indices, which no card must count first."""
    rest = torch.arange(classes - 1, device=y.device)
    return rest + (rest >= y[:, None])


def _binary(log_p: Tensor, y: Tensor) -> Tensor:
    """Return the log-distribution (B, 2) of the target class against all others."""
    hot = F.one_hot(y, log_p.shape[1]).bool()
    rest = log_p.masked_fill(hot, -torch.inf).logsumexp(-1)
    return torch.stack([log_p.gather(-1, y[:, None])[:, 0], rest], -1).clamp(min=-100)


def _others(log_p: Tensor, y: Tensor) -> Tensor:
    """Return the log-distribution (B, K−1) over non-target classes; −inf in a row where none of them was shown."""
    rest = F.log_softmax(log_p.gather(-1, others(y, log_p.shape[1])), -1)
    return torch.where(rest.isnan(), -torch.inf, rest)
