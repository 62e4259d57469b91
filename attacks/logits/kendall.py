"""Kendall's τ: beside the probabilities, match the order of the classes (Guan et al., ICML 2025, arXiv 2409.17823)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import Attack, Lab
from attacks.losses import kd, soft_target, supervised
from teachers.training import Batch, Outputs, Student

PAIRS = 2**17  # of classes, compared at once: 512 KiB a tensor stay in a core's cache


@dataclass(frozen=True, kw_only=True)
class Kendall(Attack):
    """(1 − α) CE + α T² KL(p_t^T ‖ p_s^T) + r (1 − τ), τ averaged over images.

    τ = mean_{i≠j} tanh(k (z_s[i] − z_s[j])) tanh(k (z_t[i] − z_t[j])) over the pairs of classes that an answer shows.
    As k grows it becomes Kendall's coefficient: the share of pairs in the teacher's order minus that of reversed pairs.
    Every pair counts alike, however small its probabilities. T and α are those of soft KD, r and k are ours.
    """

    name = "kendall"
    title = "Kendall's τ ranking loss"
    paper = "Guan, Cheng, Liu & Yuan, ICML 2025, arXiv 2409.17823"
    needs = "probs"
    holds = "original"
    views = "crop"

    temperature: float = 4.0
    weight: float = 0.9  # α
    ranking: float = 1.0  # r
    steepness: float = 1.0  # k

    @classmethod
    def grid(cls) -> tuple[Kendall, ...]:
        return (
            cls(),
            cls(ranking=4.0),
            cls(ranking=4.0, steepness=0.25),
            cls(temperature=2.0),
            cls(weight=0.0, ranking=0.0),
        )

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        assert batch.answers is not None
        distilled = kd(outputs.logits, soft_target(batch, self.temperature), self.temperature)
        order = 1 - agreement(outputs.logits, batch.answers.log_probs(), self.steepness).mean()
        return (1 - self.weight) * supervised(outputs, batch) + self.weight * distilled + self.ranking * order


def agreement(logits: Tensor, log_p: Tensor, steepness: float) -> Tensor:
    """Return τ between logits and log-probabilities (B, K) of every image, (B,).

    Entries of −inf, which an API did not show, are in no pair; a row that shows fewer than two classes gets zero.
    """
    here, images = logits.detach(), max(1, PAIRS // logits.shape[1] ** 2)
    rows = zip(torch.split(here, images), torch.split(log_p, images), strict=True)
    tau, slope = (torch.cat(parts) for parts in zip(*(_compare(*row, steepness) for row in rows), strict=True))
    return tau + ((logits - here) * slope).sum(-1)  # the value of τ and its derivative, while no pair is kept


def _compare(logits: Tensor, log_p: Tensor, steepness: float) -> tuple[Tensor, Tensor]:
    """Return τ (B,) and its derivative with respect to the logits (B, K)."""
    shown = log_p.isfinite()
    count = shown.sum(-1, keepdim=True)
    pairs = (count * (count - 1)).clamp(min=1)
    theirs = _signs(steepness * log_p.masked_fill(~shown, 0.0)) * (shown[:, :, None] & shown[:, None, :])
    ours = _signs(steepness * logits)
    alike = ours * theirs
    slope = 2 * steepness * torch.addcmul(theirs, alike, ours, value=-1).sum(-1)  # theirs · (1 − ours²)
    return alike.sum((1, 2)) / pairs[:, 0], slope / pairs


def _signs(z: Tensor) -> Tensor:
    """Return tanh(z[i] − z[j]) of every pair of classes, (B, K, K); zero on the diagonal."""
    return (z[:, :, None] - z[:, None, :]).tanh_()
