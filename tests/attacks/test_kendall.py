"""Kendall's τ as a loss: against sums over pairs, scipy's coefficient, every order of the classes, hidden entries."""

import itertools
import math

import pytest
import torch
from scipy.stats import kendalltau
from small_batches import B, K, batch, logits
from torch.nn import functional as F

from attacks.contract import tiny_lab
from attacks.logits import kendall
from attacks.logits.kendall import Kendall, agreement
from attacks.logits.soft_kd import SoftKD
from attacks.losses import kd
from teachers.surface import FULL, Surface
from teachers.task import UNLABELLED
from teachers.training import Outputs

STEEP = 1e6


def told(surface: str = "probs") -> torch.Tensor:
    answers = batch().answers
    assert answers is not None
    return Surface.parse(surface)(answers.values).values


def pairs(z: list[float], t: list[float], k: float) -> float:
    """Return τ of one image, by a sum over the pairs of its shown classes."""
    classes = [c for c in range(len(t)) if math.isfinite(t[c])]
    terms = [math.tanh(k * (z[i] - z[j])) * math.tanh(k * (t[i] - t[j])) for i, j in itertools.combinations(classes, 2)]
    return sum(terms) / len(terms) if terms else 0.0


def slope(z: torch.Tensor, log_p: torch.Tensor, k: float = 1.0) -> torch.Tensor:
    z = z.clone().requires_grad_()
    agreement(z, log_p, k).sum().backward()
    assert z.grad is not None
    return z.grad


@pytest.mark.parametrize("k", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("surface", ["probs", "top:4", "top:3", "top:2", "top:1", "round:1"])
def test_agreement_is_the_mean_over_pairs_of_shown_classes(surface: str, k: float) -> None:
    z, log_p = logits(0), told(surface)
    expected = [pairs(*row, k) for row in zip(z.tolist(), log_p.tolist(), strict=True)]
    assert agreement(z, log_p, k).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_steep_agreement_is_kendalls_coefficient() -> None:
    for seed in range(5):
        z, log_p = logits(seed), F.log_softmax(logits(seed + 50), -1)
        theirs = [kendalltau(a, b).statistic for a, b in zip(z.numpy(), log_p.numpy(), strict=True)]
        assert agreement(z, log_p, STEEP).tolist() == pytest.approx(theirs, abs=1e-12)


def test_classes_that_a_teacher_ties_count_for_no_order() -> None:
    z, log_p = logits(0)[:1], torch.tensor([[0.3, 0.3, 0.2, 0.1, 0.1]], dtype=torch.float64).log()
    pulls = slope(z, log_p, k=0.5)
    swapped = slope(z[:, [1, 0, 2, 3, 4]], log_p, k=0.5)
    torch.testing.assert_close(pulls[:, [1, 0, 2, 3, 4]], swapped)
    signs = [math.copysign(1, float(z[0, i] - z[0, j])) for i, j in itertools.combinations(range(5), 2)]
    apart = [i for i, (a, b) in enumerate(itertools.combinations(range(5), 2)) if log_p[0, a] != log_p[0, b]]
    assert float(agreement(z, log_p, STEEP)) == pytest.approx(sum(signs[i] for i in apart) / 10)


def test_of_all_orders_of_a_students_logits_the_teachers_agrees_most() -> None:
    values, log_p = torch.tensor([-2.0, -0.5, 0.1, 1.0, 4.0], dtype=torch.float64), told()[0]
    orders = torch.stack([values[list(order)] for order in itertools.permutations(range(K))])
    scores = agreement(orders, log_p.expand_as(orders), 0.7)
    assert orders[scores.argmax()].argsort().tolist() == log_p.argsort().tolist()
    assert orders[scores.argmin()].argsort().tolist() == log_p.argsort(descending=True).tolist()


def test_a_steep_agreement_ignores_the_teachers_scale() -> None:
    torch.testing.assert_close(agreement(logits(0), told(), STEEP), agreement(logits(0), 0.1 * told(), STEEP))


def test_agreement_has_the_derivative_of_its_differences_and_moves_no_sum() -> None:
    z = logits(0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: agreement(x, told("top:3"), 0.5), z)
    assert slope(logits(0), told()).sum(-1).abs().max() < 1e-12


@pytest.mark.parametrize("count", range(1, K + 1))
def test_hidden_entries_are_in_no_pair(count: int) -> None:
    z, log_p = logits(0), told()
    kept = log_p.topk(count, -1).indices
    hidden = torch.full_like(log_p, -torch.inf).scatter(-1, kept, log_p.gather(-1, kept))
    grad = slope(z, hidden)
    assert grad.isfinite().all()
    assert not grad[~hidden.isfinite()].any()
    torch.testing.assert_close(agreement(z, hidden, 1.0), agreement(z.gather(-1, kept), log_p.gather(-1, kept), 1.0))
    assert bool(grad.any()) == (count > 1)


def test_images_compared_in_parts_are_compared_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    z, log_p = logits(0), told("top:4")
    whole = agreement(z, log_p, 1.0), slope(z, log_p)
    monkeypatch.setattr(kendall, "PAIRS", 2 * K * K)
    torch.testing.assert_close((agreement(z, log_p, 1.0), slope(z, log_p)), whole)
    monkeypatch.setattr(kendall, "PAIRS", 1)
    torch.testing.assert_close((agreement(z, log_p, 1.0), slope(z, log_p)), whole)


def test_kendall_adds_one_minus_tau_to_kd() -> None:
    attack = Kendall(temperature=2.0, weight=0.7, ranking=3.0, steepness=0.5)
    z, now = logits(0), batch(labels=[0, 1, UNLABELLED, 3, 4, 0, UNLABELLED])
    known = now.labels != UNLABELLED
    ce = float(F.cross_entropy(z[known], now.labels[known]))
    distilled = float(kd(z, F.softmax(logits(100) / 2, -1), 2.0))
    tau = sum(pairs(*row, 0.5) for row in zip(z.tolist(), logits(100).tolist(), strict=True)) / B
    expected = 0.3 * ce + 0.7 * distilled + 3 * (1 - tau)
    assert float(attack.loss(Outputs(z), now, 0)) == pytest.approx(expected, rel=1e-6)


def test_kendall_without_its_ranking_is_soft_kd() -> None:
    ours, kd_ = (a.attempt(tiny_lab(FULL, 0)).network for a in (Kendall(ranking=0.0), SoftKD()))
    x = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(ours(x), kd_(x))


def test_the_ranking_alone_pulls_a_students_classes_into_the_teachers_order() -> None:
    z = logits(0).requires_grad_()
    optimiser = torch.optim.SGD([z], lr=20.0)
    for _ in range(200):
        optimiser.zero_grad()
        (-agreement(z, told(), 0.2).sum()).backward()
        optimiser.step()
    assert agreement(z.detach(), told(), STEEP).tolist() == pytest.approx([1.0] * B)
