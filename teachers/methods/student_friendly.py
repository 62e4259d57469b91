"""Learning to teach with student feedback: a teacher trained on how well a pupil learns from it (arXiv 2109.04641)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from teachers.methods.base import Method, NotNegative, Positive, Share, TeacherTraining, divergence
from teachers.training import Batch, Outputs, Recipe, Student, build_student


@dataclass(frozen=True, kw_only=True)
class StudentFriendly(Method):
    """Fine-tune the ordinary teacher with CE + w · exam, where a pupil first takes a course step on half of each batch.

    Course: the pupil takes one gradient step on T² KL(softmax(v/T) ‖ softmax(z/T)) with the teacher's logits v. Exam:
    the pupil's cross entropy on the other half, differentiated through that step into v. One pupil learns throughout.
    """

    name = "student-friendly"
    title = "an ordinary teacher, fine-tuned so that a student learns more from it"
    paper = "Liu, Sun, Qiu & Huang, Learning to Teach with Student Feedback, EMNLP Findings 2021, arXiv 2109.04641"
    looks = True

    weight: NotNegative = 1.0  # w
    temperature: Positive = 4.0
    pupil: str = "strided-8-16-32"
    pace: NotNegative = 0.1  # the pupil's learning rate
    share: Share = 1 / 6  # of the ordinary teacher's steps
    rate: NotNegative = 0.5  # of its learning rate

    def teach(self, trainer: TeacherTraining) -> Student:
        recipe = trainer.part(self.share, self.rate)
        with torch.random.fork_rng():
            torch.manual_seed(trainer.seed + 1)
            pupil = build_student(Recipe(self.pupil, 0), trainer.classes, trainer.task.shape, trainer.device).train()
        return trainer.fit(Feedback(self, pupil), recipe=recipe, start=trainer.plain())


@dataclass
class Feedback:
    """The loss and its pupil."""

    method: StudentFriendly
    pupil: nn.Module
    weights: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.weights = {name: p.detach().clone() for name, p in self.pupil.named_parameters()}

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        half = len(batch.x) // 2
        learned = self.course(outputs.logits[:half], batch.x[:half])
        exam = F.cross_entropy(functional_call(self.pupil, learned, batch.x[half:]), batch.labels[half:])
        self.weights = {name: p.detach() for name, p in learned.items()}
        return F.cross_entropy(outputs.logits, batch.labels) + self.method.weight * exam

    def course(self, taught: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Return the pupil's weights after a step towards the teacher's logits `taught` (B, K)."""
        temperature = self.method.temperature
        before = {name: p.requires_grad_() for name, p in self.weights.items()}
        loss = temperature**2 * divergence(taught, functional_call(self.pupil, before, x), temperature)
        slopes = torch.autograd.grad(loss, list(before.values()), create_graph=True)
        return {name: p - self.method.pace * g for (name, p), g in zip(before.items(), slopes, strict=True)}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the pupil's state."""
        return {name: value.detach() for name, value in (*self.pupil.state_dict().items(), *self.weights.items())}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a saved pupil."""
        self.pupil.load_state_dict(state)
        self.weights = {name: state[name].to(old) for name, old in self.weights.items()}
