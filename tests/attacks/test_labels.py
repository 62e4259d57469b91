"""Attacks that need the top class alone: CopycatCNN, ActiveThief, JBDA."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attacks.base import Attack
from attacks.contract import CLASSES, tiny_lab
from attacks.labels.activethief import ActiveThief, choose, farthest
from attacks.labels.copycat import Copycat, balanced, copied
from attacks.labels.jbda import JBDA, climbed
from attacks.surrogate.knockoff import Knockoff
from teachers.surface import FULL, Answers, Surface
from teachers.training import Batch, Outputs, Student

LABEL = Surface("label")
COPYCAT, THIEF, JACOBIAN = Copycat(queries=48), ActiveThief(queries=50), JBDA(queries=150, rounds=2)


def student(attack: Attack, surface: Surface = FULL, budget: int | None = None) -> Student:
    return attack.attempt(tiny_lab(surface, 1, budget, original=attack.holds == "original"))


def weights(attack: Attack, surface: Surface = FULL, budget: int | None = None) -> torch.Tensor:
    return torch.cat([p.flatten() for p in student(attack, surface, budget).network.parameters()])


@pytest.mark.parametrize("attack", [COPYCAT, THIEF, JACOBIAN], ids=lambda a: a.name)
@pytest.mark.parametrize("budget", [None, 30, 4])
def test_an_attack_spends_its_wish_or_what_the_budget_leaves(attack: Attack, budget: int | None) -> None:
    lab = tiny_lab(FULL, 0, budget, original=attack.holds == "original")
    attack.attempt(lab)
    assert lab.oracle.charged == (budget or attack.parameters["queries"])


@pytest.mark.parametrize("attack", [COPYCAT, THIEF, JACOBIAN], ids=lambda a: a.name)
def test_probabilities_tell_no_more_than_the_top_class(attack: Attack) -> None:
    assert torch.equal(weights(attack), weights(attack, LABEL))


@pytest.mark.parametrize(
    ("attack", "change"),
    [
        (COPYCAT, {"balance": False}),
        (COPYCAT, {"longer": 2.0}),
        (COPYCAT, {"queries": 40}),
        (THIEF, {"strategy": "k-center"}),
        (THIEF, {"strategy": "random"}),
        (THIEF, {"soft": True}),
        (THIEF, {"rounds": 2}),
        (THIEF, {"clone": 0.2}),
        (THIEF, {"longer": 2.0}),
        (THIEF, {"queries": 40}),
        (JACOBIAN, {"step": 0.02}),
        (JACOBIAN, {"rounds": 1}),
        (JACOBIAN, {"clone": 2.0}),
        (JACOBIAN, {"longer": 2.0}),
        (JACOBIAN, {"queries": 100}),
    ],
    ids=str,
)
def test_every_option_changes_the_student(attack: Attack, change: dict[str, float]) -> None:
    assert not torch.equal(weights(attack), weights(replace(attack, **change)))  # type: ignore[arg-type]


def test_copycat_is_the_cross_entropy_with_the_top_class() -> None:
    z, told = (torch.randn(6, 4, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    batch = Batch(torch.zeros(6, 1, 2, 2), torch.zeros(6).long(), Answers("probs", F.log_softmax(told, -1)))
    log_p = F.log_softmax(z, -1)
    expected = -sum(float(log_p[i, int(told[i].argmax())]) for i in range(6)) / 6
    assert float(copied(Outputs(z), batch, 0)) == pytest.approx(expected, rel=1e-5)


def test_a_copycat_without_balance_is_a_knockoff_by_labels() -> None:
    assert torch.equal(weights(Copycat(queries=48, balance=False)), weights(Knockoff(queries=48), LABEL))


def test_balance_shows_each_class_that_was_seen_equally_often_and_rare_images_in_turn() -> None:
    labels = np.array([2] * 14 + [5] * 3 + [0])
    rows = balanced(labels, 0)
    assert np.bincount(labels[rows]).tolist() == [6, 0, 6, 0, 0, 6]
    assert np.bincount(rows, minlength=18)[14:].tolist() == [2, 2, 2, 6]
    assert np.bincount(rows)[:14].max() == 1


def test_entropy_takes_the_images_that_the_clone_is_least_sure_of() -> None:
    outputs = F.log_softmax(3 * torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), -1)
    asked = np.array([1, 7, 20])
    entropy = {i: -sum(float(p) * float(np.log(p)) for p in outputs[i].exp().numpy()) for i in range(40)}
    expected = sorted((i for i in entropy if i not in asked), key=lambda i: -entropy[i])[:6]
    assert choose("entropy", outputs, asked, 6, 0).tolist() == sorted(expected)


def test_k_center_takes_the_farthest_point_again_and_again() -> None:
    points = F.softmax(2 * torch.randn(30, 3, generator=torch.Generator().manual_seed(0)), -1)
    asked = [4, 9]
    centres, expected = list(asked), []
    for _ in range(5):
        near = {i: min(float((points[i] - points[c]).norm()) for c in centres) for i in range(30) if i not in centres}
        expected.append(max(near, key=lambda i: near[i]))
        centres.append(expected[-1])
    assert choose("k-center", points.log(), np.array(asked), 5, 0).tolist() == sorted(expected)
    rest = np.setdiff1d(np.arange(30), asked)
    assert rest[farthest(points[rest], points[asked], 5)].tolist() == expected


def test_random_depends_on_its_seed_and_repeats_nothing() -> None:
    outputs, asked = torch.zeros(30, 3), np.arange(0, 30, 2)
    first, other = (choose("random", outputs, asked, 8, seed) for seed in (0, 1))
    assert first.tolist() != other.tolist()
    assert not set(first) & set(asked)
    assert len(set(first)) == 8


def test_an_unknown_strategy_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="entropy, k-center and random"):
        choose("best", torch.zeros(3, 2), np.array([0]), 1, 0)


def test_a_thief_without_rounds_is_a_knockoff() -> None:
    alone = ActiveThief(queries=48, rounds=0, soft=True)
    assert torch.equal(weights(alone), weights(Knockoff(queries=48)))
    assert torch.equal(weights(ActiveThief(queries=500, soft=True)), weights(Knockoff(queries=500)))


def test_the_last_student_gets_all_steps_and_a_clone_fewer() -> None:
    lab = tiny_lab(FULL, 0, original=False)
    steps = []
    trained, fit = [], lab.fit
    lab.fit = lambda *given: trained.append(fit(*given)) or trained[-1]  # type: ignore[method-assign]
    ActiveThief(queries=50, rounds=3).attempt(lab)
    steps = [s.report.recipe.steps for s in trained]
    assert steps == [6, 6, 6, 24]


def test_a_thief_learns_of_each_image_what_was_answered_about_it() -> None:
    lab, seen = tiny_lab(FULL, 0, original=False), []
    stream = lab.stream
    lab.stream = lambda kind, answers, **given: (  # type: ignore[method-assign]
        seen.append((given["only"], answers)) or stream(kind, answers, **given)
    )
    THIEF.attempt(lab)
    assert [len(only) for only, _ in seen] == [10, 20, 30, 40, 50]
    only, answers = seen[-1]
    pixels = torch.from_numpy(lab.surrogate.images[only]).float() / 255
    torch.testing.assert_close(answers.values, lab.oracle.ask(pixels).values)


def test_jbda_climbs_the_clones_logit_of_the_label() -> None:
    """The gradient of a linear network is the row of its weight."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    images = np.random.default_rng(0).integers(0, 256, (7, 1, 8, 8)).astype(np.uint8)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 2])
    sign = torch.sign(network[1].weight.detach()).numpy()[labels.numpy()].reshape(7, 1, 8, 8)
    expected = np.clip(images.astype(int) + np.rint(51 * sign).astype(int), 0, 255)
    assert (climbed(network, images, labels, 0.2, "cpu") == expected).all()
    assert all(p.grad is None for p in network.parameters())


def test_jbdas_step_of_public_code_is_half_as_long_for_pixels_from_nought_to_one() -> None:
    """x ∈ [−1, 1] moves by 0.1: of pixels (x + 1)/2 in [0, 1] that is 0.05, of 255 levels 12.75."""
    public = JBDA.grid()[4]
    assert public == JBDA(step=0.05)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    images = np.full((1, 1, 8, 8), 128, np.uint8)
    x = 2 * (images / 255) - 1
    moved = x + 0.1 * torch.sign(network[1].weight.detach()).numpy()[1].reshape(1, 1, 8, 8)
    ours = climbed(network, images, torch.tensor([1]), public.step, "cpu")
    assert (ours == np.rint((moved + 1) / 2 * 255)).all()


@pytest.mark.parametrize(("queries", "asked"), [(1000, [60, 60, 120, 240]), (200, [60, 60, 80]), (40, [40])])
def test_jbda_doubles_its_images_while_the_budget_lasts(queries: int, asked: list[int]) -> None:
    lab, counts = tiny_lab(FULL, 0), []
    charge = lab.oracle.charge
    lab.oracle.charge = lambda images: counts.append(images) or charge(images)  # type: ignore[method-assign]
    JBDA(queries=queries, rounds=3).attempt(lab)
    assert counts == asked


def test_jbda_uses_no_label_of_the_attackers() -> None:
    lab = tiny_lab(FULL, 1)
    lab.pool = replace(lab.pool, labels=lab.pool.labels[::-1].copy())
    mine = torch.cat([p.flatten() for p in JACOBIAN.attempt(lab).network.parameters()])
    assert torch.equal(mine, weights(JACOBIAN))
