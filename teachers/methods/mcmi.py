"""MCMI: fine-tune a teacher so that its answers reveal more than the label, by maximising CMI (arXiv 2401.08732)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from teachers.fidelity import PUBLIC, Fidelity
from teachers.methods.base import Method, NotNegative, Share, TeacherTraining
from teachers.methods.centroids import Alternating, Centroids, Remembering, Rule
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class MCMI(Method):
    """Fine-tune the ordinary teacher with CE − λ · CMI at temperature 1, which makes it more distillable.

    As published: a twelfth of the ordinary teacher's steps, with a learning rate from 0.05, half of ours. The class
    means follow the network here, by default every epoch, on raw images. The published code computes them once, before
    the first step, on augmented images and with the network in training mode: `update=frozen`.
    """

    name = "mcmi"
    title = "an ordinary teacher, fine-tuned so that its answers tell more: the cross entropy minus CMI"
    paper = "Ye, Hamidi, Tan & Yang, ICLR 2024, arXiv 2401.08732"
    fidelity = Fidelity(
        source=PUBLIC,
        default=False,
        note="the authors' is `update=frozen`: centroids are taken once, from augmented images",
    )
    looks = True

    weight: NotNegative = 0.15  # λ
    share: Share = 1 / 12  # of the steps
    rate: NotNegative = 0.5  # of the learning rate
    update: Rule = "epoch"
    decay: Share = 0.99  # of running means

    def teach(self, trainer: TeacherTraining) -> Student:
        recipe = trainer.part(self.share, self.rate)
        centroids = Centroids((1.0,), trainer.classes, self.update, decay=self.decay, device=trainer.device)
        if self.update == "frozen":
            centroids.take_views(trainer.ordinary().train(), trainer.stream(recipe), len(trainer.task.train))
        stream = Alternating(trainer.stream(recipe), centroids, trainer.task.train, trainer.epoch(recipe))
        return trainer.fit(
            Spread(method=self, centroids=centroids), recipe=recipe, stream=stream, start=trainer.plain()
        )


@dataclass(frozen=True, kw_only=True)
class Spread(Remembering):
    """The loss and its class means."""

    method: MCMI

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        told = self.centroids.cmi(outputs.logits, batch.labels)[0]
        return F.cross_entropy(outputs.logits, batch.labels) - self.method.weight * told
