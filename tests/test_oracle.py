"""The oracle is the only door: it counts before it asks, and lets nothing out but answers."""

import pytest
import torch
from torch import nn

from teachers.errors import BudgetExceeded, RefusedInput, UsageError
from teachers.oracle import CHUNK, Box, Oracle
from teachers.surface import FULL, Answers, Surface

SHAPE = (1, 4, 4)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3))


def oracle(surface: str = "probs", budget: int | None = None) -> Oracle:
    seen = Surface.parse(surface)
    return Oracle(Box(network(), seen), surface=seen, shape=SHAPE, budget=budget)


def test_probabilities_sum_to_one_and_carry_no_graph() -> None:
    x = torch.rand(5, *SHAPE, requires_grad=True)
    answers = oracle()(x)
    torch.testing.assert_close(answers.values.exp().sum(-1), torch.ones(5))
    assert not answers.values.requires_grad
    assert answers.values.dtype == torch.float32


def test_a_label_surface_shows_labels_alone() -> None:
    x = torch.rand(5, *SHAPE)
    shown = oracle("label")(x)
    assert shown.kind == "label"
    assert torch.equal(shown.values, oracle()(x).values.argmax(-1))
    with pytest.raises(ValueError, match="no probabilities"):
        shown.log_probs()


def test_the_budget_is_checked_before_anything_is_sent() -> None:
    asked = []

    def ask(x: torch.Tensor) -> Answers:
        asked.append(len(x))
        return Answers("label", torch.zeros(len(x), dtype=torch.int64))

    door = Oracle(ask, surface=Surface("label"), shape=SHAPE, budget=10)
    door(torch.rand(8, *SHAPE))
    with pytest.raises(BudgetExceeded, match="3 more queries would make 11, above the budget of 10"):
        door(torch.rand(3, *SHAPE))
    assert asked == [8]
    assert door.charged == 8
    door(torch.rand(2, *SHAPE))


@pytest.mark.parametrize("bad", [torch.rand(2, 3, 4, 4), torch.rand(4, 4), torch.rand(2, *SHAPE) * 255 + 2])
def test_images_of_another_shape_or_range_are_refused(bad: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="the oracle takes"):
        oracle()(bad)


def test_the_teacher_is_in_eval_mode_even_after_somebody_trained_it() -> None:
    inner = network()
    box = Box(inner)
    first = box(torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)))
    inner.train()
    again = box(torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(first.values, again.values)


def test_an_answer_does_not_depend_on_how_many_are_asked_with_it() -> None:
    x = torch.rand(2 * CHUNK + 3, *SHAPE)
    box = Box(network())
    torch.testing.assert_close(box(x).values[-1:], box(x[-1:]).values)


def test_nan_answers_are_refused_with_their_number() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = torch.zeros(len(x), 3)
            z[0, 1] = torch.nan
            return z

    with pytest.raises(RefusedInput, match="NaN or infinity on 1 of 4 images"):
        Box(Broken())(torch.rand(4, *SHAPE))


def test_temperature_is_a_power_of_the_probabilities() -> None:
    answers = oracle()(torch.rand(5, *SHAPE))
    p = answers.values.exp()
    power = p ** (1 / 3)
    torch.testing.assert_close(answers.log_probs(3).exp(), power / power.sum(-1, keepdim=True))


def test_surfaces_know_which_attacks_they_allow() -> None:
    assert FULL.offers("label")
    assert FULL.offers("probs")
    assert not Surface("label").offers("probs")
    with pytest.raises(UsageError, match="there are probs, logits, label"):
        Surface.parse("logit")
