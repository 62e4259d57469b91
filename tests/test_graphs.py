"""A step that is recorded and replayed is the step itself; what a recording would freeze is not recorded."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attacks import registry
from attacks.base import Attack
from attacks.contract import tiny_lab
from attacks.logits.soft_kd import SoftKD
from attacks.surrogate.knockoff import imitate
from teachers import graphs, training
from teachers.graphs import StepRead, UnreadStep, why_not
from teachers.surface import FULL, Surface
from teachers.training import Batch, Outputs, Student

STEPS = 12


class Recorder:
    """Records on the CPU: each replay does the work again. The first is done while it is recorded."""

    def __init__(self) -> None:
        self.replayed = 0
        self.network = torch.nn.Module()  # of the run; a card does nothing while it records

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        before = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        try:
            work()
        except StepRead:
            self.network.load_state_dict(before)
            raise
        first = True

        def replay() -> None:
            nonlocal first
            self.replayed += 1
            if not first:
                work()
            first = False

        return replay


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Let students on the CPU be recorded."""
    found, begin = Recorder(), training._Run.__init__

    def begun(run: Any, recipe: Any, network: Any, stream: Any, objective: Any, device: torch.device) -> None:
        begin(run, recipe, network, stream, objective, device)
        run.recorder, found.network = None if why_not(objective, len(run.optimisers)) else found, network

    monkeypatch.setattr(training._Run, "__init__", begun)
    return found


def weights(student: Student) -> dict[str, Tensor]:
    return student.network.state_dict()


def trained(attack: Attack, seed: int = 0) -> Student:
    """Return a student of a few steps."""
    lab = tiny_lab(Surface.parse(attack.needs) if attack.needs == "gradients" else FULL, seed)
    lab.recipe = training.replace(lab.recipe, steps=STEPS)
    return attack.run(lab)


# What is not recorded, and why. All others are; of `adaptive`, its own LS student.
EAGER = {
    "ctkd": "learns the temperature",
    "dkd": "rises with the step",
    "mkd": "learns a matrix",
    "rld": "rises with the step",
    "skeptical": "begins after some steps",
}
ORIGINAL = [a for a in registry.attacks().values() if a.holds == "original" and not registry.origin(a)]


@pytest.mark.parametrize("attack", ORIGINAL, ids=lambda attack: attack.name)
def test_a_student_of_recorded_steps_is_that_of_eager_ones(attack: type[Attack], recorder: Recorder) -> None:
    replayed = weights(trained(attack()))
    counted = recorder.replayed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "EAGER", 10**9)
        eager = weights(trained(attack()))
    for name, tensor in eager.items():
        assert torch.equal(tensor, replayed[name]), name
    assert (counted > 0) == (attack.name not in EAGER)


def test_most_losses_are_recorded(recorder: Recorder) -> None:
    trained(SoftKD())
    assert recorder.replayed == STEPS - graphs.EAGER


class Counting:
    """A loss that counts its calls."""

    def __call__(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return outputs.logits.sum()


def theirs(outputs: Outputs, batch: Batch, step: int) -> Tensor:
    """A loss of a plug-in."""
    return outputs.logits.sum()


def test_what_a_recording_would_freeze_is_not_recorded() -> None:
    assert why_not(SoftKD().loss, 1) == ""
    assert why_not(imitate, 1) == ""
    assert why_not(SoftKD().loss, 2) == "the loss learns with the student"
    assert why_not(Counting(), 1) == "the loss keeps a state of its own"
    assert why_not(theirs, 1) == "the loss is not ours: it may count its calls"


@pytest.mark.parametrize(
    "read",
    [
        *(lambda s: s + 1, lambda s: 1 - s, lambda s: s / 3, lambda s: 2 * s, lambda s: s % 2, lambda s: -s, int),
        *(float, bool, range, lambda s: s < 3, lambda s: s == 3, lambda s: [0, 1][s], np.cos, hash, torch.tensor),
    ],
)
def test_no_way_to_read_the_number_of_a_step_goes_unnoticed(read: Callable[[Any], Any]) -> None:
    with pytest.raises((StepRead, TypeError, RuntimeError)):
        read(UnreadStep())


def test_a_loss_that_reads_the_step_is_trained_as_it_is(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def rising(self: SoftKD, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return (1 + step) * outputs.logits.square().mean()

    rising.__module__ = "attacks.logits.soft_kd"
    monkeypatch.setattr(SoftKD, "loss", rising)
    trained(SoftKD())
    assert recorder.replayed == 0


def test_a_batch_of_another_shape_is_trained_as_it_is(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = training.StoredStream.next

    def short(self: Any, step: int, student: Any) -> Batch:
        batch = whole(self, step, student)
        half = len(batch.x) // 2
        if step != STEPS - 1:
            return batch
        assert batch.answers is not None
        return Batch(batch.x[:half], batch.labels[:half], batch.answers[:half])

    monkeypatch.setattr(training.StoredStream, "next", short)
    trained(SoftKD())
    assert recorder.replayed == STEPS - graphs.EAGER - 1
