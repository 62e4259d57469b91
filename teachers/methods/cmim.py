"""CMIM: train an undistillable teacher by minimising CMI over the temperature spectrum (arXiv 2507.00012)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from teachers.fidelity import Fidelity
from teachers.methods.base import Method, NotNegative, Positive, Share, TeacherTraining, Weights
from teachers.methods.centroids import Alternating, Centroids, Remembering, Update
from teachers.training import Batch, Outputs, Recipe, Student


@dataclass(frozen=True, kw_only=True)
class CMIM(Method):
    """Minimise CE + λ (mean over powers of (T^s · CMI_T)^ω)^(1/ω), T = 1/power, each CMI with its own class means.

    A reconstruction. The paper minimises the maximum of CMI over the power parameter, which it replaces by an average
    with a finite exponent over a few powers. Its powers, λ and ω are not public: the defaults here, with power 1 alone,
    resisted attacks best on validation (docs/teachers.md). With s = 2 all powers have a similar weight, as in
    distillation: T² CMI_T tends to a constant where CMI_T vanishes. Means over a `batch` see little of the CMI if there
    are many classes; λ = 20 is for 62 classes.
    """

    name = "cmim"
    title = "the cross entropy, with as little CMI as possible at any temperature"
    paper = "Ye, Hamidi & Yang, Towards Undistillable Models by Minimizing CMI, arXiv 2507.00012 (reconstruction)"
    fidelity = Fidelity(
        note=(
            "a reconstruction: its public code has no body; the paper penalises the whole spectrum of "
            "powers, the default power 1 alone"
        ),
    )
    weight: NotNegative = 20.0  # λ
    powers: tuple[Positive, ...] = (1.0,)
    exponent: Positive = 1.0  # ω: 1 gives the mean, a large value the maximum
    scale: NotNegative = 2.0  # s
    update: Update = "batch"
    decay: Share = 0.99  # of running means

    def teach(self, trainer: TeacherTraining) -> Student:
        return self.concentrate(trainer, trainer.recipe)

    def concentrate(self, trainer: TeacherTraining, recipe: Recipe, start: Weights | None = None) -> Student:
        """Train with this loss and its class means."""
        centroids = Centroids(self.powers, trainer.classes, self.update, decay=self.decay, device=trainer.device)
        stream = Alternating(trainer.stream(recipe), centroids, trainer.task.train, trainer.epoch(recipe))
        return trainer.fit(Concentrate(method=self, centroids=centroids), recipe=recipe, stream=stream, start=start)


@dataclass(frozen=True, kw_only=True)
class Concentrate(Remembering):
    """The loss and its class means."""

    method: CMIM

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        spread = self.centroids.cmi(outputs.logits, batch.labels)
        return F.cross_entropy(outputs.logits, batch.labels) + self.method.weight * self.joined(spread)

    def joined(self, spread: Tensor) -> Tensor:
        """Combine the CMI of all powers (A,) into one number: their scaled power mean with exponent ω."""
        scaled = spread.clamp(min=1e-12) * self.centroids.powers**-self.method.scale
        top = scaled.detach().max()  # so that a large exponent does not underflow
        exponent = self.method.exponent
        return top * ((scaled / top) ** exponent).mean() ** (1 / exponent)
