"""What an API lets out: each step against its definition, and what an attacker reads out of the answers."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from teachers.errors import RefusedInput, UsageError
from teachers.kinds import Kind
from teachers.oracle import Box
from teachers.storage.store import AnswerStore
from teachers.surface import GAMMA, Answers, Surface, reverse_sigmoid
from teachers.synthetic import LabelMemory, SmoothedTruth
from teachers.task import Pool

N, K = 6, 5


def log_probs(seed: int = 0) -> torch.Tensor:
    return F.log_softmax(3 * torch.randn(N, K, generator=torch.Generator().manual_seed(seed)), -1)


def test_top_shows_the_largest_as_they_are_and_hides_the_rest() -> None:
    shown = Surface("top:2")(log_probs()).values
    for row, full in zip(shown, log_probs(), strict=True):
        kept = full.argsort(descending=True)[:2]
        assert set(torch.isfinite(row).nonzero().flatten().tolist()) == set(kept.tolist())
        assert torch.equal(row[kept], full[kept])


def test_rounding_keeps_decimals_and_hides_what_becomes_zero() -> None:
    shown = Surface("round:1")(log_probs()).values.exp()
    expected = np.round(log_probs().exp().double().numpy(), 1)
    np.testing.assert_allclose(shown.numpy(), expected, atol=1e-6)


def test_temperature_is_a_power_and_can_be_undone() -> None:
    shown = Surface("temperature:4")(log_probs())
    p = log_probs().exp() ** 0.25
    torch.testing.assert_close(shown.values.exp(), p / p.sum(-1, keepdim=True))
    torch.testing.assert_close(shown.log_probs(0.25), log_probs(), atol=1e-4, rtol=1e-4)


def test_reverse_sigmoid_is_its_formula_by_brute_force() -> None:
    shown = Surface("reverse-sigmoid:0.5")(log_probs()).values.exp()
    for row, full in zip(shown.tolist(), log_probs().exp().tolist(), strict=True):
        raw = [p - 0.5 * (1 / (1 + math.exp(-GAMMA * math.log(p / (1 - p)))) - 0.5) for p in full]
        assert row == pytest.approx([r / sum(raw) for r in raw], rel=1e-4)
    torch.testing.assert_close(reverse_sigmoid(log_probs(), 0.0), log_probs(), atol=1e-4, rtol=1e-4)


def test_sparse_shows_the_largest_renormalised() -> None:
    full, shown = log_probs().exp(), Surface("sparse:2")(log_probs()).values.exp()
    kept = full >= full.topk(2, -1).values[:, -1:]
    torch.testing.assert_close(shown, full * kept / (full * kept).sum(-1, keepdim=True))


def test_hidden_entries_of_renormalised_answers_are_filled_alike() -> None:
    """What float32 leaves of 1 − Σp says nothing of what was hidden."""
    many = F.log_softmax(3 * torch.randn(2_000, 62, generator=torch.Generator().manual_seed(1)), -1)
    shown = Surface("sparse:6")(many)
    filled, hidden = shown.logits(), ~torch.isfinite(shown.values)
    smallest = filled.masked_fill(hidden, torch.inf).amin(-1, keepdim=True)
    torch.testing.assert_close(filled[hidden], (smallest - math.log(2)).expand_as(filled)[hidden])


@pytest.mark.parametrize("budget", [0.0, 0.5, 1.5])
def test_mad_keeps_to_what_is_shown_and_to_its_budget(budget: float) -> None:
    before = Surface("top:3")(log_probs()).values
    after = Surface(f"top:3+mad:{budget}")(log_probs()).values
    assert torch.equal(torch.isfinite(after), torch.isfinite(before))
    assert ((after.exp() - before.exp()).abs().sum(-1) <= budget + 1e-6).all()
    assert torch.equal(after.argmax(-1), before.argmax(-1))


@pytest.mark.parametrize("budget", [0.1, 0.5, 1.5])
def test_mad_turns_a_strangers_gradient_as_far_as_a_way_to_a_corner_can(budget: float) -> None:
    """Brute force over steps to every corner, with the gradient of a fresh last layer taken by autograd."""
    shown = Surface(f"mad:{budget}")(log_probs()).values.exp().double()
    full, h = log_probs().exp().double(), torch.randn(7, dtype=torch.float64)

    def gradient(target: torch.Tensor) -> torch.Tensor:
        layer = torch.zeros(K, 7, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(-(target * F.log_softmax(layer @ h, -1)).sum(), layer)
        return slope.flatten()

    for row, p in zip(shown, full, strict=True):
        assert float((row - p).abs().sum()) <= budget + 1e-6
        assert int(row.argmax()) == int(p.argmax())
        angle = float(F.cosine_similarity(gradient(p), gradient(row), dim=0))
        for corner in torch.eye(K, dtype=torch.float64):
            for step in torch.linspace(0, 1, 60, dtype=torch.float64):
                other = p + step * (corner - p)
                if float((other - p).abs().sum()) <= budget and int(other.argmax()) == int(p.argmax()):
                    assert angle <= float(F.cosine_similarity(gradient(p), gradient(other), dim=0)) + 0.01


def test_noise_belongs_to_the_answer_and_has_the_given_deviation() -> None:
    surface, many = Surface("noise:0.5"), F.log_softmax(torch.randn(400, 20), -1)
    assert torch.equal(surface(many).values, surface(many).values)
    assert torch.equal(surface(many).values[7:8], surface(many[7:8]).values)
    change = surface(many).values - many
    centred = change - change.mean(-1, keepdim=True)
    assert float(centred.std()) == pytest.approx(0.5, rel=0.05)


def test_steps_follow_each_other_as_they_are_written() -> None:
    both = Surface("temperature:4+top:1")(log_probs()).values
    assert torch.equal(both, Surface("top:1")(Surface("temperature:4")(log_probs()).values).values)
    assert not torch.equal(both, Surface("top:1")(log_probs()).values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("logit", "there are probs, logits, label, gradients, and joined by . top:K"),
        ("top:0", "top takes a whole number from 1"),
        ("round:1.5", "round takes a whole number from 1 to 6"),
        ("temperature:nan", "temperature takes a number"),
        ("top:", "as in top:2"),
        ("label+top:2", r"unknown surface 'label' \(alone\)"),
    ],
)
def test_a_surface_that_cannot_be_is_refused_with_what_can(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Surface.parse(text)


def test_hidden_entries_have_no_probability_at_any_temperature() -> None:
    answers = Surface("top:2")(log_probs())
    for temperature in (0.5, 1, 4):
        p = answers.log_probs(temperature).exp()
        torch.testing.assert_close(p.sum(-1), torch.ones(N))
        assert ((p > 0).sum(-1) == 2).all()


def test_a_row_of_which_nothing_is_shown_is_uniform() -> None:
    nothing = Answers("probs", torch.full((1, 20), -torch.inf))
    torch.testing.assert_close(nothing.log_probs().exp(), torch.full((1, 20), 0.05))
    torch.testing.assert_close(nothing.logits(), torch.zeros(1, 20))


def test_logits_are_finite_centred_and_bounded_by_what_was_shown() -> None:
    torch.testing.assert_close(Answers("probs", log_probs()).logits(), log_probs() - log_probs().mean(-1, keepdim=True))
    shown = Answers("probs", torch.tensor([[0.6, 0.3, 0, 0, 0]]).log())
    z = shown.logits()[0]
    assert float(z.mean()) == pytest.approx(0, abs=1e-6)
    assert float((z[2] - z[0]).exp()) == pytest.approx(0.1 / 3 / 0.6, rel=1e-5), "an even share of what is missing"
    full = Answers("probs", torch.tensor([[0.9, 0.1, 0, 0, 0]]).log()).logits()[0]
    assert float((full[3] - full[1]).exp()) == pytest.approx(0.5, rel=1e-3), "half of the smallest where nothing is"


class Quadratic(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.flatten(1).square().sum(-1), x.flatten(1).sum(-1), -x.flatten(1).sum(-1)], -1)


def test_an_explanation_is_the_gradient_of_the_top_class() -> None:
    x = torch.rand(5, 1, 3, 3)
    with torch.no_grad():  # whatever the asker's mode
        told = Box(Quadratic(), Surface("gradients"))(x)
    assert told.gradients is not None
    assert not told.values.requires_grad
    step = 1e-3
    for i in range(5):
        for pixel in range(9):
            moved = torch.zeros(9)
            moved[pixel] = step
            ends = [Box(Quadratic())(x[i : i + 1] + s * moved.reshape(1, 1, 3, 3)).values[0] for s in (1, -1)]
            slope = (ends[0] - ends[1])[told.labels[i]] / (2 * step)
            assert float(told.gradients[i].flatten()[pixel]) == pytest.approx(float(slope), abs=2e-3)
    assert Box(Quadratic())(x).gradients is None


def test_a_teacher_without_gradients_is_refused_where_they_are_asked_for() -> None:
    pool = Pool(np.zeros((3, 1, 4, 4), np.uint8), np.arange(3))
    with pytest.raises(RefusedInput, match="no input gradients"):
        Box(SmoothedTruth(LabelMemory(pool, 1), 3), Surface("gradients"))(torch.rand(2, 1, 4, 4))


def test_gradients_and_hidden_entries_are_stored_as_they_came(tmp_path) -> None:  # type: ignore[no-untyped-def]
    told = Answers("gradients", Surface("top:2")(log_probs()).values, torch.rand(N, 1, 3, 3))
    store = AnswerStore(tmp_path)
    store.add("b", 10, np.arange(N), told)
    stored, missing = store.load("b", np.arange(10))
    assert missing.tolist() == [6, 7, 8, 9]
    assert stored is not None
    assert stored.kind == "gradients"
    assert torch.equal(stored.values[:N], told.values)
    assert stored.gradients is not None
    assert torch.equal(stored.gradients[:N], told.gradients)  # type: ignore[arg-type]


def test_uint8_rounds_what_goes_in() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, K))
    x = torch.rand(N, 1, 2, 2)
    whole = (x * 255).round() / 255
    for name in ("uint8", "uint8+top:2", "uint8+label"):
        shown = Surface(name.removeprefix("uint8").removeprefix("+") or "probs")
        assert torch.equal(Box(network, Surface(name))(x).values, Box(network, shown)(whole).values)
    steps = [Box(network, Surface("uint8"))(whole + step / 255).values for step in (0.0, 0.4)]
    assert torch.equal(*steps), "a small step vanishes"
    assert Surface("uint8+label").kind == "label"
    assert Surface("uint8+gradients").kind == "gradients"


@pytest.mark.parametrize(
    ("names", "offered"),
    [
        (("label", "uint8+label"), {"label"}),
        (("probs", "logits", "uint8", "top:5", "uint8+top:5"), {"label", "probs"}),
        (("gradients", "uint8+gradients"), {"label", "probs", "gradients"}),
    ],
)
def test_a_surface_offers_what_its_answers_hold(names: tuple[str, ...], offered: set[Kind]) -> None:
    for name in names:
        assert {need for need in get_args(Kind) if Surface(name).offers(need)} == offered


def test_logits_show_what_probabilities_show() -> None:
    assert torch.equal(Surface("logits")(log_probs()).values, log_probs())
    assert Surface("logits").offers("probs")
    with pytest.raises(UsageError, match="unknown surface 'uint8'"):
        Surface("top:2+uint8")
