"""Stingy teacher: an ordinary teacher that shows few of its logits (Ma et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from teachers import guards
from teachers.fidelity import PUBLIC, Fidelity
from teachers.methods.base import Method, Share, TeacherTraining
from teachers.methods.plain import Plain
from teachers.networks import PreprocessedNetwork
from teachers.training import Student


@dataclass(frozen=True, kw_only=True)
class Stingy(Method):
    """Show the largest r K logits of an ordinary teacher, renormalised, and hide the others.

    This changes only the output: the network, and so the accuracy, is the ordinary teacher's.
    """

    name = "stingy"
    title = "an ordinary teacher that shows a tenth of its logits"
    paper = "Ma et al., Stingy teacher: sparse logits suffice to fail knowledge distillation, PAIR2Struct at ICLR 2022"
    fidelity = Fidelity(source=PUBLIC, note="the hidden logits match")
    looks = True

    share: Share = 0.1  # r; the paper: 0.1 for 100 classes and 0.2 for 10

    def teach(self, trainer: TeacherTraining) -> Student:
        kept = max(2, round(self.share * trainer.classes))
        as_it_is = replace(trainer.recipe, steps=0)
        student = trainer.fit(Plain(), recipe=as_it_is, start=trainer.plain())
        assert isinstance(student.network, PreprocessedNetwork)
        return replace(student, network=guards.behind(student.network, guards.SurfaceGuard(f"sparse:{kept}")))
