"""A learned perturbation of the answers that keeps the accuracy: APGP, which CMIM's paper compares with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from teachers import guards
from teachers.fidelity import Fidelity
from teachers.methods.base import Method, NotNegative, Positive, Share, TeacherTraining, divergence, validation_logits
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class APGP(Method):
    """Train a residual network on a frozen ordinary teacher's probabilities with CE − λ KL(shown ‖ own).

    Widths (three hidden layers of 512) and a learning rate of 1 are those of the public code of CMIM. That code shows
    softmax(p + MLP(p)), p the ordinary teacher's probabilities, and subtracts λ KL(own ‖ shown) without a limit, λ = 1
    over two epochs: `form=published`, `weight=1`, `share=0.05`. Our choices are the default: the network's output is
    added to log-probabilities, so that training starts near the ordinary teacher's answers; the other direction of KL;
    KL, which has no upper bound, is capped at `most` nats per image; λ and `most`, which cost about three points of
    accuracy on validation.
    """

    name = "apgp"
    title = "an ordinary teacher behind a learned perturbation that keeps its accuracy"
    paper = "rival of CMIM, arXiv 2507.00012; its own source was not found"
    fidelity = Fidelity(
        source="Linfeng-Ye/CMIM train_APGP.py",
        default=False,
        note="the authors' is `form=published`: p + MLP(p) and −λ KL(own ‖ shown), without a cap",
    )
    looks = True
    later = frozenset({"form"})

    weight: NotNegative = 2.0  # λ
    most: Positive = 0.2  # nats per image: cap of KL
    share: Share = 1 / 12  # of the ordinary teacher's steps
    rate: NotNegative = 10.0  # of the learning rate
    form: Literal["bounded", "published"] = "bounded"  # published: p + MLP(p) and KL(own ‖ shown), without a limit

    def teach(self, trainer: TeacherTraining) -> Student:
        guard = "apgp_published" if self.form == "published" else "apgp"
        recipe = trainer.part(self.share, self.rate, wrap=f"teachers.guards:{guard}")
        student = trainer.fit(Perturb(self, trainer.ordinary()), recipe=recipe, start=trainer.plain())
        return replace(student, network=guards.inside(student.network))

    def measure(self, trainer: TeacherTraining, network: nn.Module) -> dict[str, float]:
        """Return the divergence of the shown answers from the ordinary teacher's on validation images, in nats."""
        shown, own = validation_logits(trainer, network), validation_logits(trainer, trainer.ordinary())
        return {"KL to its own answers": float(divergence(shown, own))}


@dataclass(frozen=True)
class Perturb:
    """The loss, which uses the ordinary teacher's answers."""

    method: APGP
    ordinary: nn.Module

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        with torch.no_grad():
            own = self.ordinary(batch.x)
        shown, known = F.log_softmax(outputs.logits, -1), F.log_softmax(own, -1)
        if self.method.form == "published":
            apart = divergence(own, outputs.logits)
        else:
            apart = (shown.exp() * (shown - known)).sum(-1).clamp(max=self.method.most).mean()
        return F.cross_entropy(outputs.logits, batch.labels) - self.method.weight * apart
