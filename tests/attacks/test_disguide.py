"""DisGUIDE: what the generator seeks, what both clones learn, and which of them is the student."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.contract import CLASSES, SHAPE, tiny_lab
from attacks.data_free.disguide import Clones, DisGUIDE, Dispute, clones, dispute
from attacks.data_free.generator import pixels
from teachers.networks import build
from teachers.surface import FULL, Answers, Surface
from teachers.training import Batch, Outputs, build_student, predict

SMALL = {"queries": 80, "batch": 8}
B, K = 5, 4


def logits(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_dispute_is_disagreement_and_diversity_by_brute_force() -> None:
    z = logits(0, 2, B, K)
    p = F.softmax(z, -1)
    disagreement = 0.0
    for i in range(B):
        for k in range(K):
            a, b = float(p[0, i, k]), float(p[1, i, k])
            middle = (a + b) / 2
            disagreement += math.sqrt((a - middle) ** 2 + (b - middle) ** 2) / B
    diversity = 0.0
    for k in range(K):
        share = sum(float(p[c, i, k]) for c in range(2) for i in range(B)) / (2 * B)
        diversity += share * math.log(share)
    assert float(dispute(z, 3.0)) == pytest.approx(3 * diversity - disagreement, rel=1e-9)


def test_clones_that_agree_leave_diversity_alone() -> None:
    """Its least is −λ log K, where all classes come equally often."""
    z = 50 * torch.eye(K, dtype=torch.float64)
    assert float(dispute(torch.stack([z, z]), 2.0)) == pytest.approx(-2 * math.log(K))
    assert float(dispute(torch.stack([z[:1], z[:1]]), 2.0)) == pytest.approx(0, abs=1e-5)


def test_a_class_that_never_comes_has_a_finite_slope() -> None:
    z = (torch.tensor([[[1e4, 0.0, 0.0]], [[1e4, 0.0, 0.0]]]) + torch.zeros(2, 3, 3)).requires_grad_()
    dispute(z + torch.tensor([[[0.0]], [[1.0]]]), 1.0).backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_the_generator_learns_to_make_the_clones_disagree_without_a_query() -> None:
    lab = tiny_lab(FULL, 0, original=False)
    torch.manual_seed(0)
    game = Dispute(lab, DisGUIDE(**SMALL, generator_lr=1e-2, diversity=0.0))
    student = clones(build("strided-4-4", CLASSES, SHAPE), CLASSES, SHAPE).eval()

    def disputed() -> float:
        game.chance.manual_seed(9)
        with torch.no_grad():
            outputs = student(pixels(game.imagine()))
            return float(dispute(torch.stack([outputs.logits, *outputs.heads]), 0.0))

    before = disputed()
    for _ in range(20):
        game.improve(student)
    assert disputed() < 1.3 * before
    assert lab.oracle.charged == 0
    assert all(p.grad is None for p in student.parameters())


def test_both_clones_learn_the_recovered_logits() -> None:
    first, second, t = logits(1, B, K), logits(2, B, K), logits(3, B, K)
    batch = Batch(torch.zeros(B, 1, 2, 2), torch.full((B,), -1), Answers("probs", F.log_softmax(t, -1)))
    expected = sum(
        abs(float(z[i, k]) - float(t[i, k] - t[i].mean())) for z in (first, second) for i in range(B) for k in range(K)
    )
    assert float(DisGUIDE().loss(Outputs(first, (second,)), batch, 0)) == pytest.approx(expected / B)


def test_labels_are_learned_by_cross_entropy() -> None:
    first, second, labels = logits(1, B, K), logits(2, B, K), torch.tensor([0, 3, 1, 1, 2])
    batch = Batch(torch.zeros(B, 1, 2, 2), torch.full((B,), -1), Answers("label", labels))
    expected = -sum(float(F.log_softmax(z, -1)[i, y]) for z in (first, second) for i, y in enumerate(labels)) / B
    assert float(DisGUIDE().loss(Outputs(first, (second,)), batch, 0)) == pytest.approx(expected)


def test_clones_start_from_different_weights_and_the_first_is_the_student() -> None:
    lab = tiny_lab(FULL, 0, original=False)
    recipe = replace(lab.recipe, wrap="attacks.data_free.disguide:clones")
    torch.manual_seed(1)
    fresh = build_student(recipe, CLASSES, SHAPE)
    assert isinstance(fresh, Clones)
    drawn = [(a, b) for a, b in zip(fresh.first.parameters(), fresh.second.parameters(), strict=True) if a.ndim > 1]
    assert drawn
    assert not any(torch.equal(a, b) for a, b in drawn)
    torch.manual_seed(1)
    plain = build_student(lab.recipe, CLASSES, SHAPE)
    assert all(torch.equal(a, b) for a, b in zip(fresh.first.parameters(), plain.parameters(), strict=True))
    network = DisGUIDE(**SMALL).attempt(lab).network
    assert isinstance(network, Clones)
    pool = tiny_lab(FULL, 0).pool
    assert (predict(network, pool) == predict(network.first, pool)).all()


@pytest.mark.parametrize("surface", ["probs", "label"])
@pytest.mark.parametrize(("queries", "budget"), [(400, 2000), (403, 2000), (400, 90), (5, 2000)])
def test_every_query_is_a_new_image_of_a_student_step(surface: str, queries: int, budget: int) -> None:
    lab = tiny_lab(Surface(surface), 0, budget, original=False)
    student = DisGUIDE(queries=queries, batch=8, fresh=2, replay=1).attempt(lab)
    spent, batch = min(queries, budget), student.report.recipe.batch
    assert lab.oracle.charged == spent // batch * batch
    rounds, rest = divmod(spent // batch, 2)
    assert student.report.recipe.steps == 3 * rounds + rest


CHANGES = [
    {"queries": 64},
    {"batch": 6},
    {"fresh": 2},
    {"replay": 2},
    {"lr": 0.01},
    {"generator_lr": 1e-2},
    {"adam": False},
    {"memory": 16},
    {"diversity": 0.0},
    {"mean": True},
]


@pytest.mark.parametrize("change", CHANGES, ids=[next(iter(c)) for c in CHANGES])
def test_every_option_changes_the_student(change: dict[str, float]) -> None:
    def weights(setting: DisGUIDE) -> Tensor:
        student = setting.attempt(tiny_lab(FULL, 0, original=False))
        return torch.cat([p.flatten() for p in student.network.parameters()])

    first = DisGUIDE(**SMALL, generator_lr=1e-3)
    assert not torch.equal(weights(first), weights(replace(first, **change)))


def test_the_papers_budget_and_its_rate_are_presets() -> None:
    paper = replace(DisGUIDE(), queries=10_000_000, batch=256)
    assert DisGUIDE.presets() == {"paper": paper, "mean": DisGUIDE(mean=True, lr=0.03)}


def test_the_published_mean_takes_the_step_of_the_sum_with_its_rate_times_ten_over_classes() -> None:
    batch = Batch(torch.zeros(B, 1, 2, 2), torch.full((B,), -1), Answers("probs", F.log_softmax(logits(3, B, K), -1)))
    steps = {}
    for setting in (DisGUIDE(), DisGUIDE.presets()["mean"]):
        assert isinstance(setting, DisGUIDE)
        both = [logits(seed, B, K).requires_grad_() for seed in (1, 2)]
        slopes = torch.autograd.grad(setting.loss(Outputs(both[0], (both[1],)), batch, 0), both)
        steps[setting.mean] = setting.lr * torch.stack(slopes)
    torch.testing.assert_close(steps[True], steps[False] * 10 / K)


def test_a_mean_over_classes_leaves_the_cross_entropy_with_labels_alone() -> None:
    batch = Batch(torch.zeros(B, 1, 2, 2), torch.full((B,), -1), Answers("label", torch.tensor([0, 3, 1, 1, 2])))
    outputs = Outputs(logits(1, B, K), (logits(2, B, K),))
    assert torch.equal(DisGUIDE(mean=True).loss(outputs, batch, 0), DisGUIDE().loss(outputs, batch, 0))
