"""RLD: against a sum row by row, against DKD where the teacher is right, and where classes are hidden."""

import math
from dataclasses import replace

import pytest
import torch
from small_batches import B, K, batch, logits
from torch.nn import functional as F

from attacks.contract import tiny_lab
from attacks.logits.dkd import DKD
from attacks.logits.rld import RLD
from attacks.logits.soft_kd import SoftKD
from teachers.surface import FULL, Answers, Surface
from teachers.task import UNLABELLED
from teachers.training import Batch


def softened(row: list[float], T: float) -> list[float]:
    mass = [math.exp(v / T) for v in row]
    return [m / sum(mass) for m in mass]


def reference(z: list[float], t: list[float], y: int, attack: RLD) -> float:
    """Return T² (α SCD + β MCD) of one image, by sums over its classes."""
    T = attack.temperature
    p, q = softened(t, T), softened(z, T)
    sure = max(p)
    scd = sure * math.log(sure / q[y])
    scd += (1 - sure) * math.log((1 - sure) / (1 - q[y])) if sure < 1 else 0.0
    below = [c for c in range(len(t)) if t[c] < t[y]]
    theirs, ours = sum(p[c] for c in below), sum(q[c] for c in below)
    mcd = sum(p[c] / theirs * math.log(p[c] / theirs / (q[c] / ours)) for c in below if p[c])
    return T * T * (attack.alpha * scd + attack.beta * mcd)


def expected(z: torch.Tensor, now: Batch, attack: RLD) -> float:
    assert now.answers is not None
    rows = zip(z.tolist(), now.answers.values.tolist(), now.labels.tolist(), strict=True)
    return sum(reference(*row, attack) for row in rows) / len(z)


def shown(now: Batch, surface: str) -> Batch:
    assert now.answers is not None
    return replace(now, answers=Surface.parse(surface)(now.answers.values))


def slope(z: torch.Tensor, now: Batch, attack: RLD) -> torch.Tensor:
    z = z.clone().requires_grad_()
    attack.distilled(z, now).backward()
    assert z.grad is not None
    return z.grad


def ranked(now: Batch) -> list[int]:
    """Return how many classes the teacher ranks below each label."""
    assert now.answers is not None
    values = now.answers.values
    return [int(n) for n in (values < values.gather(-1, now.labels[:, None])).sum(-1)]


@pytest.mark.parametrize("attack", [*RLD.grid(), RLD(alpha=1.5, beta=2.5, temperature=1.0)], ids=str)
def test_rld_is_the_sum_of_its_parts_row_by_row(attack: RLD) -> None:
    z, now = logits(0), batch()
    assert {0, K - 1} < set(ranked(now)), "labels at the bottom, at the top and between"
    assert float(attack.distilled(z, now)) == pytest.approx(expected(z, now, attack), rel=1e-9)


def test_rld_of_a_teacher_that_is_right_is_dkd() -> None:
    z, now = logits(0), batch()
    assert now.answers is not None
    right = replace(now, labels=now.answers.labels)
    mine, theirs = (a(alpha=1.5, beta=2.5, temperature=2.0).distilled(z, right) for a in (RLD, DKD))
    assert float(mine) == pytest.approx(float(theirs), rel=1e-9)


def test_rld_takes_the_top_class_of_an_image_without_a_label() -> None:
    z, now = logits(0), batch()
    assert now.answers is not None
    right = replace(now, labels=now.answers.labels)
    unknown = replace(now, labels=torch.full((B,), UNLABELLED))
    torch.testing.assert_close(RLD().distilled(z, unknown), RLD().distilled(z, right))


def test_rld_is_least_where_a_student_equals_a_teacher_that_is_right() -> None:
    z = logits(0)
    now = Batch(torch.zeros(B, 1, 2, 2), z.argmax(-1), Answers("probs", F.log_softmax(z, -1)))
    assert float(RLD().distilled(z, now)) == pytest.approx(0, abs=1e-9)
    assert slope(z, now, RLD()).abs().max() < 1e-9
    assert all(float(RLD().distilled(z + 0.1 * logits(seed), now)) > 1e-3 for seed in range(1, 6))


def test_masked_correlation_says_nothing_of_the_label_and_of_what_ranks_above_it() -> None:
    now = batch()
    assert now.answers is not None
    grad = slope(logits(0), now, RLD(alpha=0.0))
    above = now.answers.values >= now.answers.values.gather(-1, now.labels[:, None])
    assert grad[above].abs().max() < 1e-12
    several = (~above).sum(-1) > 1
    assert grad[several].abs().sum(-1).min() > 0
    assert grad[~several].abs().max() < 1e-12, "of one class there is nothing to compare"


def test_sample_confidence_of_a_wrong_answer_is_about_the_label() -> None:
    """A student is as sure of the label as the teacher is of its mistake: no gradient, although the classes differ."""
    p = torch.tensor([[0.1, 0.7, 0.2]], dtype=torch.float64)
    now = Batch(torch.zeros(1, 1, 2, 2), torch.tensor([0]), Answers("probs", p.log()))
    attack = RLD(beta=0.0, temperature=1.0)
    assert slope(p[:, [1, 0, 2]].log(), now, attack).abs().max() < 1e-12
    assert slope(p.log(), now, attack)[0, 0] < -0.1


@pytest.mark.parametrize("surface", [f"top:{k}" for k in range(1, K)] + ["round:1", "top:2+round:1"])
def test_hidden_entries_add_nothing_to_rld_and_its_slope_is_finite(surface: str) -> None:
    z, now = logits(0), shown(batch(), surface)
    assert now.answers is not None
    assert not now.answers.values.isfinite().all()
    for attack in RLD.grid():
        assert float(attack.distilled(z, now)) == pytest.approx(expected(z, now, attack), rel=1e-9)
        assert slope(z, now, attack).isfinite().all()
    hidden = ~now.answers.values.gather(-1, now.labels[:, None]).isfinite()[:, 0]
    if hidden.any():  # which classes rank below a hidden one is not known
        assert slope(z, now, RLD(alpha=0.0))[hidden].abs().max() < 1e-12


def test_rld_is_finite_where_an_answer_shows_nothing() -> None:
    now = replace(batch(), answers=Answers("probs", torch.full((B, K), -torch.inf, dtype=torch.float64)))
    assert RLD().distilled(logits(0), now).isfinite()
    assert slope(logits(0), now, RLD()).isfinite().all()
    assert slope(logits(0), now, RLD(alpha=0.0)).abs().max() < 1e-12


def test_rld_is_finite_in_single_precision_for_logits_far_apart() -> None:
    z = (logits(0) * 100).float()
    now = Batch(torch.zeros(B, 1, 2, 2), batch().labels, Answers("probs", F.log_softmax(-z, -1)))
    assert RLD(temperature=1.0).distilled(z, now).isfinite()
    assert slope(z, now, RLD(temperature=1.0)).isfinite().all()


def test_rld_without_its_parts_is_cross_entropy() -> None:
    ours, ce = (a.attempt(tiny_lab(FULL, 0)).network for a in (RLD(alpha=0.0, beta=0.0), SoftKD(weight=0.0)))
    x = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(ours(x), ce(x))
