"""RLD: distil the teacher's confidence and its order below the label (Sun et al., ICCV 2025, arXiv 2408.07703)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.losses import kl, rising, target_class
from teachers.training import Batch, Student

NEVER = -1e9  # a log-probability of zero that stays finite where it is multiplied by zero


@dataclass(frozen=True, kw_only=True)
class RLD(Attack):
    """CE + rising · T² (α SCD + β MCD).

    SCD, sample confidence: KL([max p_t, 1 − max p_t] ‖ [p_s[y], 1 − p_s[y]]), so a wrong answer still tells how sure to
    be of the label y. MCD, masked correlation: KL over the classes that the teacher ranks below y, each renormalised.
    """

    name = "rld"
    title = "Refined logit distillation"
    paper = "Sun, Chen, Lyu, Chen, Chen & Wang, ICCV 2025, arXiv 2408.07703"
    needs = "probs"
    holds = "original"
    views = "crop"

    temperature: float = 4.0  # of both parts
    alpha: float = 1.0
    beta: float = 8.0
    warmup: float = 20 / 240  # fraction of the steps in which the distilled part rises, as in the authors' schedule

    @classmethod
    def grid(cls) -> tuple[RLD, ...]:
        return cls(), cls(beta=2.0), cls(temperature=2.0), cls(temperature=2.0, beta=2.0), cls(alpha=0.0, beta=0.0)

    def run(self, lab: Lab) -> Student:
        loss = rising(self.distilled, self.warmup, lab.recipe.steps)
        return lab.fit(lab.stream("crop", lab.answers("crop")), loss)

    def distilled(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return T² (α SCD + β MCD); for an image without a label, the teacher's top class is the target."""
        assert batch.answers is not None
        y = target_class(batch)[:, None]  # (B, 1)
        log_s = F.log_softmax(logits / self.temperature, -1)
        log_t = batch.answers.log_probs(self.temperature)
        scd = kl(_binary(log_t, log_t.argmax(-1, keepdim=True)), _binary(log_s, y))
        below = _below(log_t, y)
        mcd = kl(_among(log_t, below), _among(log_s, below))
        return self.temperature**2 * (self.alpha * scd + self.beta * mcd)


def _binary(log_p: Tensor, index: Tensor) -> Tensor:
    """Return the log-distribution (B, 2) of the class at `index` (B, 1) against all others."""
    others = log_p.scatter(-1, index, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log_p.gather(-1, index), others], -1)


def _below(log_p: Tensor, y: Tensor) -> Tensor:
    """Return which classes rank below y (B, 1), (B, K); none in a row that shows no such class."""
    below = log_p < log_p.gather(-1, y)
    return below & (below & log_p.isfinite()).any(-1, keepdim=True)


def _among(log_p: Tensor, classes: Tensor) -> Tensor:
    """Return the log-distribution over some classes (B, K); a row without any is uniform and gives no gradient."""
    return F.log_softmax(log_p.masked_fill(~classes, NEVER), -1)
