"""Linear CMI purification: a linear transform of an ordinary teacher's answers that removes their CMI."""

from __future__ import annotations

from dataclasses import dataclass, replace

from teachers import guards
from teachers.fidelity import Fidelity
from teachers.methods.base import NotNegative, Share, TeacherTraining
from teachers.methods.cmim import CMIM
from teachers.training import Student


@dataclass(frozen=True, kw_only=True)
class Purified(CMIM):
    """Train a linear transform of a frozen ordinary teacher's log-probabilities with CMIM's loss.

    Adapted to classifiers from arXiv 2602.03396, which learns a linear transform of a language model's logits.
    """

    name = "purified"
    title = "an ordinary teacher behind a linear transform that removes its CMI"
    paper = "after arXiv 2602.03396 (language models); loss of CMIM, arXiv 2507.00012"
    looks = True
    fidelity = Fidelity(note="after a paper on language models; its code was not compared")

    weight: NotNegative = 5.0
    share: Share = 1 / 12  # of the ordinary teacher's steps
    rate: NotNegative = 0.1  # of the learning rate

    def teach(self, trainer: TeacherTraining) -> Student:
        recipe = trainer.part(self.share, self.rate, wrap="teachers.guards:purified")
        student = self.concentrate(trainer, recipe, start=trainer.plain())
        return replace(student, network=guards.inside(student.network))
