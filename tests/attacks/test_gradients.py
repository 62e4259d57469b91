"""Attacks on explanations: slopes against finite differences and closed forms, ledgers against the oracle."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attacks.base import Attack
from attacks.contract import CLASSES, SHAPE, tiny_lab
from attacks.data_free.generator import pixels
from attacks.gradients.auxiliary import Augmented, uphill
from attacks.gradients.backward_kd import BackwardKD, explained_slope
from attacks.gradients.backward_kd_zo import BackwardKDZO, divergence, orthonormal
from attacks.gradients.kdiga import KDIGA, saliency
from attacks.gradients.megex import MEGEX, Explained, disagreement
from attacks.logits.soft_kd import SoftKD
from teachers.oracle import Box, Oracle
from teachers.surface import FULL, Answers, Surface
from teachers.task import UNLABELLED
from teachers.training import Batch, Outputs, Student

B, K, D = 5, 4, 12  # images of 1 × 3 × 4 pixels
EXPLAINED = Surface("gradients")
VIEWS = 120  # of the tiny lab's 60 images


def network(seed: int) -> nn.Module:
    """Return a smooth network in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Flatten(), nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, K))
    return layers.double()


def images(seed: int = 0) -> torch.Tensor:
    return torch.rand(B, 1, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def explain(teacher: nn.Module, x: torch.Tensor) -> Answers:
    x = x.detach().requires_grad_()
    log_p = F.log_softmax(teacher(x), -1)
    (slope,) = torch.autograd.grad(log_p.amax(-1).sum(), x)
    return Answers("gradients", log_p.detach(), slope)


def differences(function, x: torch.Tensor, h: float = 1e-6) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """Return central differences of a function (B, C, H, W) to (B,), pixel by pixel."""
    slope = torch.zeros_like(x)
    for place in torch.nonzero(torch.ones_like(x[0])).tolist():
        step = torch.zeros_like(x)
        step[(slice(None), *place)] = h
        slope[(slice(None), *place)] = (function(x + step) - function(x - step)) / (2 * h)
    return slope


def same(a: Student, b: Student) -> bool:
    x = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(9))
    return torch.equal(a.network(x), b.network(x))


def test_a_students_explanation_is_the_slope_of_its_log_probability() -> None:
    student, x, top = network(0), images().requires_grad_(), torch.tensor([0, 1, 2, 3, 1])
    expected = differences(lambda p: F.log_softmax(student(p), -1)[torch.arange(B), top], x.detach())
    torch.testing.assert_close(saliency(student(x), x, top), expected.detach(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("cosine", [False, True])
def test_misalignment_is_the_distance_of_explanations_image_by_image(cosine: bool) -> None:
    teacher, student, x = network(1), network(0), images().requires_grad_()
    answers = explain(teacher, x)
    now = Batch(x, torch.zeros(B, dtype=torch.int64), answers)
    total = 0.0
    for g, t in zip(saliency(student(x), x, answers.labels), answers.gradients, strict=True):
        a, b = g.flatten().tolist(), t.flatten().tolist()
        dot = sum(p * q for p, q in zip(a, b, strict=True))
        lengths = math.sqrt(sum(p * p for p in a) * sum(q * q for q in b))
        total += 1 - dot / lengths if cosine else sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / 2.5
    got = KDIGA(cosine=cosine).misalignment(student(x), now, 2.5)
    assert float(got.detach()) == pytest.approx(total / B, rel=1e-9)


@pytest.mark.parametrize("cosine", [False, True])
def test_misalignment_trains_the_student_and_vanishes_for_the_teacher_itself(cosine: bool) -> None:
    teacher, student, x = network(1), network(0), images().requires_grad_()
    now = Batch(x, torch.zeros(B, dtype=torch.int64), explain(teacher, x))
    assert float(KDIGA(cosine=cosine).misalignment(teacher(x), now, 1.0).detach()) == pytest.approx(0, abs=1e-12)
    optimiser = torch.optim.SGD(student.parameters(), 0.02)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = KDIGA(cosine=cosine).misalignment(student(x), now, 1.0)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.99 * losses[0]


def test_without_alignment_what_is_left_is_plain_distillation() -> None:
    plain, aligned = SoftKD().attempt(tiny_lab(EXPLAINED, 3)), KDIGA(alignment=0.0).attempt(tiny_lab(EXPLAINED, 3))
    x = torch.rand(4, *SHAPE)
    torch.testing.assert_close(plain.network(x), aligned.network(x), rtol=1e-4, atol=1e-5)


def test_the_pixels_scale_does_not_change_the_alignment() -> None:
    """Pixels ten times as large give slopes a tenth as large on both sides, and the same loss."""
    teacher, student, x = network(1), network(0), images().requires_grad_()
    answers = explain(teacher, x)
    scale = float(answers.gradients.square().sum((1, 2, 3)).mean())
    plain = KDIGA().misalignment(student(x), Batch(x, answers.labels, answers), scale)
    y = (10 * images()).requires_grad_()
    smaller = replace(answers, gradients=answers.gradients / 10)
    scaled = KDIGA().misalignment(student(y / 10), Batch(y, answers.labels, smaller), scale / 100)
    torch.testing.assert_close(plain, scaled)


def test_the_explained_slope_is_that_of_the_squared_difference_of_log_probabilities() -> None:
    teacher, student, x = network(1), network(0), images()
    answers = explain(teacher, x)
    top = answers.labels

    def gap(p: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(B)
        return (F.log_softmax(teacher(p), -1)[rows, top] - F.log_softmax(student(p), -1)[rows, top]) ** 2

    expected = differences(gap, x)
    torch.testing.assert_close(explained_slope(student, x, answers), expected.detach(), rtol=1e-5, atol=1e-7)


class Door:
    """What the slope needs of a lab: an oracle in float64."""

    def __init__(self, teacher: nn.Module) -> None:
        self.asked = self.estimated = 0
        self._teacher = teacher
        self.oracle = self

    def __call__(self, x: torch.Tensor) -> Answers:
        self.asked += len(x)
        assert x.min() >= 0
        assert x.max() <= 1
        return Answers("probs", F.log_softmax(self._teacher(x.detach()), -1).detach())

    def estimate(self, x: torch.Tensor) -> Answers:
        self.estimated += len(x)
        return self(x)


def zeroth_order(directions: int, x: torch.Tensor) -> tuple[torch.Tensor, Door]:
    teacher, student = network(1), network(0)
    door = Door(teacher)
    answers, chance = door.oracle(x), torch.Generator().manual_seed(0)
    attack = BackwardKDZO(directions=directions, epsilon=1e-7)
    return attack.slope(door, student, x, answers, chance), door  # type: ignore[arg-type]  # all that it uses


def kl_slope(x: torch.Tensor) -> torch.Tensor:
    teacher, student = network(1), network(0)

    def kl(p: torch.Tensor) -> torch.Tensor:
        log_t, log_s = F.log_softmax(teacher(p), -1), F.log_softmax(student(p), -1)
        return (log_t.exp() * (log_t - log_s)).sum(-1)

    return differences(kl, x).detach()


def test_with_as_many_directions_as_pixels_the_slope_is_that_of_the_divergence() -> None:
    x = 0.1 + 0.8 * images()
    slope, door = zeroth_order(D, x)
    torch.testing.assert_close(slope, kl_slope(x), rtol=1e-3, atol=1e-5)
    assert (door.asked, door.estimated) == (B * (1 + D), B * D)


def test_more_directions_come_nearer_to_the_slope() -> None:
    x = 0.1 + 0.8 * images()
    misses = [float((zeroth_order(m, x)[0] - kl_slope(x)).norm()) for m in (0, 2, 6, 12)]
    assert misses == sorted(misses, reverse=True)
    assert misses[-1] < 1e-3 * misses[0]


def test_a_trial_cut_at_the_edge_of_the_range_still_gives_a_projection_of_the_slope() -> None:
    """Every pixel is black or white, so about half of a trial is cut: what is added, w, keeps w · g = |w|²."""
    x = images().round()
    own, _ = zeroth_order(0, x)
    added = zeroth_order(1, x)[0] - own
    teachers = kl_slope(x) - own
    torch.testing.assert_close((added * teachers).sum((1, 2, 3)), added.square().sum((1, 2, 3)), rtol=1e-2, atol=2e-7)
    assert (added != 0).any(0).any()


def test_directions_are_orthonormal_image_by_image() -> None:
    u = orthonormal(4, images(), torch.Generator().manual_seed(0)).flatten(2)  # (m, B, D)
    grams = torch.einsum("mbd,nbd->bmn", u, u)
    torch.testing.assert_close(grams, torch.eye(4, dtype=u.dtype).expand(B, 4, 4))


def test_divergence_leaves_out_what_was_not_shown() -> None:
    log_s = F.log_softmax(torch.tensor([[1.0, 2.0, 3.0]]), -1)
    told = Answers("probs", torch.tensor([[math.log(0.25), math.log(0.75), -math.inf]]))
    expected = sum(p * (math.log(p) - float(log_s[0, k])) for k, p in enumerate((0.25, 0.75)))
    assert float(divergence(told, log_s)) == pytest.approx(expected, rel=1e-5)


def test_a_step_uphill_changes_pixels_by_its_stride() -> None:
    x, slope = 0.5 * torch.ones(3, 1, 2, 2), torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    moved = uphill(x, 7 * slope, 0.05) - x
    torch.testing.assert_close(moved.square().mean((1, 2, 3)).sqrt(), torch.full((3,), 0.05))
    assert (moved * slope > 0).all()
    assert uphill(x, 1e6 * slope, 9.0).aminmax() == (0, 1)
    assert torch.equal(uphill(x, torch.zeros_like(x), 1.0), x)


@pytest.mark.parametrize("attack", [BackwardKD(), BackwardKDZO(directions=4)])
def test_auxiliary_images_part_student_and_teacher(attack: BackwardKD | BackwardKDZO) -> None:
    """They have a larger divergence, on average, than the views that they start from."""
    lab = tiny_lab(EXPLAINED, 0)
    answers = lab.answers("crop")
    student = lab.fit(lab.stream("crop", answers), attack.loss).network
    rows = torch.arange(VIEWS)
    start = replace(attack, stride=0.0).climb(lab, student, rows, answers, torch.Generator().manual_seed(0))
    there = attack.climb(lab, student, rows, answers, torch.Generator().manual_seed(0))
    torch.testing.assert_close(start[1].values, answers.values, rtol=1e-4, atol=1e-4)

    def gap(x: torch.Tensor, told: Answers) -> float:
        log_s = F.log_softmax(student(x), -1).detach()
        if isinstance(attack, BackwardKDZO):
            return float(divergence(told, log_s).mean())
        top = told.labels[:, None]
        return float((told.values.gather(-1, top) - log_s.gather(-1, top)).square().mean())

    assert gap(*there) > gap(*start) + 0.01


def test_a_batch_holds_its_share_of_auxiliary_images_without_labels() -> None:
    lab = tiny_lab(FULL, 0)
    answers = lab.answers("crop")
    marked = torch.full((7, *SHAPE), 0.123)
    mixed = Augmented(lab.stream("crop", answers), marked, answers[:7], 0.25, 0)
    now = mixed.next(0, nn.Identity())
    auxiliary = (now.x == 0.123).flatten(1).all(-1)
    assert len(now.x) == lab.recipe.batch == 16
    assert int(auxiliary.sum()) == 4
    assert torch.equal(now.labels == UNLABELLED, auxiliary)
    assert len(now.answers) == 16


BACKWARD = [(BackwardKD(), EXPLAINED, 1), (BackwardKDZO(directions=3), FULL, 4)]


@pytest.mark.parametrize(("attack", "surface", "price"), BACKWARD)
def test_the_ledger_holds_the_views_and_what_the_auxiliary_images_cost(
    attack: Attack, surface: Surface, price: int
) -> None:
    for changed, images_made in (({"extra": 40}, 40 // price), ({"extra": 40, "rounds": 2}, 2 * (20 // price))):
        lab = tiny_lab(surface, 0)
        replace(attack, **changed).attempt(lab)
        assert lab.oracle.charged == VIEWS + price * images_made
    lab = tiny_lab(surface, 0)
    replace(attack, ascent=2, extra=48).attempt(lab)
    assert lab.oracle.charged == VIEWS + 2 * price * (48 // (2 * price))
    tight = tiny_lab(surface, 0, budget=VIEWS + 9)
    attack.attempt(tight)
    assert tight.oracle.charged == VIEWS + 9 // price * price


@pytest.mark.parametrize(("attack", "surface", "price"), BACKWARD)
def test_without_queries_to_spare_it_is_plain_distillation(attack: Attack, surface: Surface, price: int) -> None:
    plain = SoftKD().attempt(tiny_lab(surface, 0))
    assert same(plain, attack.attempt(tiny_lab(surface, 0, budget=VIEWS)))
    assert same(plain, replace(attack, rounds=0).attempt(tiny_lab(surface, 0)))


OPTIONS = [
    (KDIGA(), {"temperature": 2.0}, {"weight": 0.5}, {"alignment": 5.0}, {"cosine": True}),
    (BackwardKD(), {"temperature": 2.0}, {"weight": 0.5}, {"extra": 40}, {"rounds": 2}, {"ascent": 2}),
    (BackwardKD(), {"stride": 0.2}, {"share": 0.25}),
    (BackwardKDZO(extra=400), {"stride": 0.2}, {"share": 0.25}, {"directions": 1}, {"epsilon": 0.5}, {"rounds": 2}),
    (MEGEX(queries=120, batch=8), {"fresh": 2}, {"replay": 0}, {"lr": 0.05}, {"generator_lr": 0.1}, {"batch": 6}),
]


@pytest.mark.parametrize("attack", OPTIONS, ids=lambda options: options[0].name)
def test_every_option_changes_the_student(attack: tuple[Attack, dict[str, float]]) -> None:
    setting, *changes = attack

    def lab():  # type: ignore[no-untyped-def]
        return tiny_lab(EXPLAINED, 0, original=setting.holds == "original")

    plain = setting.attempt(lab())
    for change in changes:
        assert not same(plain, replace(setting, **change).attempt(lab())), change


def test_the_disagreement_rises_as_with_the_teacher_itself() -> None:
    """The slope through the explanation is the slope that the teacher's own network would give."""
    teacher, student, x = network(1), network(0), images().requires_grad_()
    answers = explain(teacher, x)
    rows, top = torch.arange(B), answers.labels

    def gap(p: torch.Tensor) -> torch.Tensor:
        return (F.log_softmax(teacher(p), -1)[rows, top] - F.log_softmax(student(p), -1)[rows, top]).abs()

    told = disagreement(student(x), answers, x)
    torch.testing.assert_close(told, gap(x))
    (slope,) = torch.autograd.grad(told.sum(), x)
    torch.testing.assert_close(slope, differences(gap, x.detach()).detach(), rtol=1e-5, atol=1e-7)


def test_the_generator_makes_student_and_teacher_disagree_more() -> None:
    attack = MEGEX(queries=4_000, batch=32, generator_lr=0.02)
    lab = tiny_lab(EXPLAINED, 0, budget=None, original=False)
    duel = Explained(lab, attack, 0)
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    nn.init.zeros_(student[1].weight)
    gaps = []
    for _ in range(30):
        now = duel.improve(student)
        gaps.append(float(disagreement(student(now.x), now.answers, now.x).detach().mean()))
    assert sum(gaps[-5:]) > 1.2 * sum(gaps[:5])


def test_the_data_free_student_matches_centred_logits_summed_over_classes() -> None:
    z, values = torch.randn(B, K, generator=torch.Generator().manual_seed(0)), explain(network(1), images()).values
    now = Batch(images(), torch.full((B,), UNLABELLED), Answers("probs", values))
    total = sum(abs(float(z[i, k]) - float(values[i, k] - values[i].mean())) for i in range(B) for k in range(K))
    assert float(MEGEX().loss(Outputs(z), now, 0)) == pytest.approx(total / B, rel=1e-5)


@pytest.mark.parametrize(("budget", "charged"), [(None, 480), (100, 100), (7, 7)])
def test_the_generators_images_are_the_students_first_and_cost_nothing_twice(budget: int | None, charged: int) -> None:
    lab = tiny_lab(EXPLAINED, 0, budget=budget, original=False)
    student = MEGEX(queries=480, batch=8).attempt(lab)
    assert charged - student.report.recipe.batch < lab.oracle.charged <= charged
    assert student.report.source == "generated"


def test_no_slope_ends_up_on_the_student_while_the_generator_climbs() -> None:
    lab = tiny_lab(EXPLAINED, 0, original=False)
    duel, student = Explained(lab, MEGEX(queries=480, batch=8), 0), nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    before = [w.clone() for w in duel.generator.parameters()]
    duel.improve(student)
    assert all(w.grad is None for w in student.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, duel.generator.parameters(), strict=True))


def test_a_tiny_box_explains_as_the_tests_do() -> None:
    """The reference above and the oracle agree on what an explanation is."""
    teacher = network(1).float()
    oracle = Oracle(Box(teacher, EXPLAINED), surface=EXPLAINED, shape=(1, 3, 4))
    x = pixels(torch.randn(B, 1, 3, 4, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(oracle(x).gradients, explain(teacher, x).gradients)
