"""Forward differences against true slopes, the game's ledger, and the losses of DFME and MAZE."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.base import Lab
from attacks.contract import CLASSES, SHAPE, tiny_lab
from attacks.data_free.dfme import DFME
from attacks.data_free.generator import Game, GameAttack, Generator, pixels
from attacks.data_free.maze import MAZE
from attacks.data_free.memory import eight_bit
from attacks.data_free.zeroth_order import Duel, ZerothOrder, forward_differences, sphere
from teachers.networks import build
from teachers.surface import FULL, Answers, Surface
from teachers.training import Batch, Outputs

SMALL = {"queries": 300, "batch": 8}
RULES = [DFME(**SMALL), DFME(**SMALL, replay=2), MAZE(**SMALL), MAZE(**SMALL, shared=False)]


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.randn(count, *shape, generator=chance(3), dtype=torch.float64)


def basis(shape: tuple[int, int, int], count: int) -> Tensor:
    size = math.prod(shape)
    return torch.eye(size, dtype=torch.float64).reshape(size, 1, *shape).expand(-1, count, -1, -1, -1)


def quadratic(x: Tensor) -> Tensor:
    scale = torch.arange(1.0, x[0].numel() + 1, dtype=x.dtype)
    return (scale * x.flatten(1) ** 2).sum(-1) / 2


def test_differences_along_every_axis_are_the_slope_of_a_linear_function() -> None:
    x, w = images(5, (1, 3, 4)), images(1, (1, 3, 4))[0]
    slope = forward_differences(lambda p: (p * w).flatten(1).sum(-1), x, basis((1, 3, 4), 5), 1e-3)
    torch.testing.assert_close(slope, w.expand_as(x), rtol=1e-9, atol=1e-9)


def test_differences_along_every_axis_are_off_by_half_the_curvature_times_epsilon() -> None:
    """For ½ Σ a_i x_i² a forward difference along e_i is a_i x_i + ε a_i / 2, exactly."""
    x, epsilon = images(4, (1, 2, 3)), 1e-2
    a = torch.arange(1.0, 7, dtype=x.dtype).reshape(1, 2, 3)
    slope = forward_differences(quadratic, x, basis((1, 2, 3), 4), epsilon)
    torch.testing.assert_close(slope, (a * x + epsilon * a / 2), rtol=1e-8, atol=1e-8)


def test_the_mean_over_many_directions_is_the_slope() -> None:
    x = images(3, (1, 2, 3))
    true = torch.arange(1.0, 7, dtype=x.dtype).reshape(1, 2, 3) * x
    slope = forward_differences(quadratic, x, sphere(40_000, x, chance()), 1e-5)
    assert float((slope - true).norm() / true.norm()) < 0.05


def test_one_direction_is_the_formula_written_out() -> None:
    x = images(2, (1, 2, 2))
    u = sphere(1, x, chance())
    slope = forward_differences(quadratic, x, u, 1e-3)
    for i in range(2):
        moved = (x[i] + 1e-3 * u[0, i])[None]
        rise = (float(quadratic(moved)) - float(quadratic(x[i : i + 1]))) / 1e-3
        torch.testing.assert_close(slope[i], 4 * rise * u[0, i], rtol=1e-6, atol=1e-8)


def test_directions_have_unit_length_differ_by_image_and_have_no_favourite() -> None:
    u = sphere(4000, images(2, (1, 2, 2)), chance())
    torch.testing.assert_close(u.flatten(2).norm(dim=-1), torch.ones(4000, 2, dtype=u.dtype))
    assert not torch.allclose(u[:, 0], u[:, 1])
    flat = u.flatten(0, 1).flatten(1)
    torch.testing.assert_close(flat.T @ flat / len(flat), torch.eye(4, dtype=u.dtype) / 4, atol=0.02, rtol=0)


def duel(rules: ZerothOrder, budget: int | None = 2000) -> tuple[Lab, Duel, nn.Module]:
    lab = tiny_lab(FULL, 0, budget, original=False)
    torch.manual_seed(0)
    return lab, Duel(lab, rules), build("strided-4-4", CLASSES, SHAPE)


@pytest.mark.parametrize("rules", [DFME(**SMALL, directions=400, adam=False), MAZE(**SMALL, directions=400)])
def test_the_generator_climbs_the_true_slope_of_the_divergence(rules: ZerothOrder) -> None:
    """The reference looks through the teacher, which an attack cannot."""
    _, game, student = duel(replace(rules, queries=8 * 500, generator_lr=1.0, epsilon=1e-2), budget=None)
    teacher = game.lab.oracle.ask._network  # type: ignore[attr-defined]
    before = [w.detach().clone() for w in game.generator.parameters()]
    state = game.chance.get_state()
    x = pixels(game.imagine())
    answers = Answers("probs", F.log_softmax(teacher(x), -1))
    if isinstance(rules, DFME):
        aim = answers.values - answers.values.mean(-1, keepdim=True)
        objective = (student.eval()(x) - aim).abs().sum(-1).mean()
    else:
        log_s = F.log_softmax(student.eval()(x), -1)
        objective = (answers.values.exp() * (answers.values - log_s)).sum(-1).mean()
    true = torch.autograd.grad(objective, list(game.generator.parameters()), allow_unused=True)
    game.chance.set_state(state)
    game.improve(student.eval())
    decay = 5e-4
    moved = [w.detach() - b + decay * b for w, b in zip(game.generator.parameters(), before, strict=True)]
    ours = torch.cat([m.flatten() for m in moved])
    reference = torch.cat([t.flatten() for t in true if t is not None])
    assert float(F.cosine_similarity(ours, reference, dim=0)) > 0.8
    assert 0.6 < float(ours.norm() / reference.norm()) < 1.6


def test_improving_the_generator_leaves_no_slope_on_the_student() -> None:
    _, game, student = duel(DFME(**SMALL))
    game.next(0, student)
    assert all(p.grad is None for p in student.parameters())


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("queries", [300, 307, 41, 3])
def test_all_queries_but_less_than_a_batch_are_made(rules: ZerothOrder, queries: int) -> None:
    rules = replace(rules, queries=queries)
    lab, game, _ = duel(rules)
    student = rules.attempt(lab)
    assert lab.oracle.charged == queries // game.batch * game.batch
    assert student.report.recipe.steps == game.steps
    assert student.report.source == "generated"


@pytest.mark.parametrize(
    ("rules", "batches"),
    [(DFME(**SMALL), 1 + 1 + 5), (MAZE(**SMALL, replay=3), 1 + 5), (replace(RULES[3], directions=10), 11 + 5)],
)
def test_a_round_costs_what_the_paper_says(rules: ZerothOrder, batches: int) -> None:
    lab, game, student = duel(rules)
    for step in range(rules.fresh + rules.replay):
        game.next(step, student)
    assert lab.oracle.charged == 8 * batches
    game.next(rules.fresh + rules.replay, student)
    assert lab.oracle.charged > 8 * batches


def test_a_smaller_budget_is_kept_and_makes_fewer_steps() -> None:
    full, tight = tiny_lab(FULL, 0, original=False), tiny_lab(FULL, 0, budget=200, original=False)
    long, short = MAZE(**SMALL).attempt(full), MAZE(**SMALL).attempt(tight)
    assert tight.oracle.charged == 200
    assert short.report.recipe.steps < long.report.recipe.steps


def test_a_budget_below_one_round_shrinks_the_batch_so_that_the_generator_is_trained() -> None:
    lab, game, _ = duel(MAZE(**SMALL, directions=10), budget=41)
    assert (game.batch, game.rounds) == (2, 1)
    MAZE(**SMALL, directions=10).attempt(lab)
    assert lab.oracle.charged == 40


def stored(image: torch.Tensor) -> bytes:
    """Return an image as the memory holds it."""
    return eight_bit(image).numpy().tobytes()


def test_replay_repeats_what_was_answered_and_asks_nothing() -> None:
    rules = MAZE(**SMALL, fresh=2, replay=4)
    lab, game, student = duel(rules)
    known = [game.next(step, student) for step in range(2)]
    asked = lab.oracle.charged
    table = {stored(row): a for b in known for row, a in zip(b.x, b.answers.values, strict=True)}
    for step in range(2, 6):
        batch = game.next(step, student)
        for row, answer in zip(batch.x, batch.answers.values, strict=True):
            assert torch.equal(table[stored(row)], answer)
    assert lab.oracle.charged == asked


def test_a_short_memory_forgets_the_oldest() -> None:
    _, game, student = duel(DFME(**SMALL, fresh=3, replay=5, memory=8))
    last = [game.next(step, student) for step in range(3)][-1]
    kept = {stored(row) for row in last.x}
    assert all(stored(row) in kept for step in range(3, 8) for row in game.next(step, student).x)


def test_shared_images_are_those_the_generator_asked_about() -> None:
    lab, game, student = duel(MAZE(**SMALL, directions=10))
    batch = game.next(0, student)
    assert lab.oracle.charged == 8 * 11
    torch.testing.assert_close(lab.oracle.ask(batch.x).values, batch.answers.values)


def test_the_generators_rate_falls_along_a_cosine() -> None:
    _, game, student = duel(DFME(**SMALL, replay=0))
    rates = []
    for now in range(game.rounds):
        game.next(5 * now, student)
        rates.append(game.optimiser.param_groups[0]["lr"])
    assert rates[0] == 1e-4
    assert rates == sorted(rates, reverse=True)
    assert rates[4] == pytest.approx(1e-4 * (1 + math.cos(math.pi * 4 / game.rounds)) / 2)


K = 4


def test_dfme_is_the_absolute_difference_of_recovered_logits() -> None:
    """Any constant that the softmax ate must not matter, and the sum is over classes."""
    z, t = (torch.randn(6, K, generator=chance(s), dtype=torch.float64) for s in (1, 2))
    answers = Answers("probs", F.log_softmax(t + 7, -1))
    expected = sum(abs(float(z[i, k]) - (float(t[i, k]) - float(t[i].mean()))) for i in range(6) for k in range(K))
    batch = Batch(torch.zeros(6, 1, 2, 2), torch.full((6,), -1), answers)
    assert float(DFME().loss(Outputs(z), batch, 0)) == pytest.approx(expected / 6, rel=1e-9)


def test_maze_is_the_kl_divergence_from_the_teacher() -> None:
    z, t = (torch.randn(6, K, generator=chance(s), dtype=torch.float64) for s in (1, 2))
    p, q = F.softmax(t, -1), F.softmax(z, -1)
    expected = [sum(float(p[i, k]) * math.log(p[i, k] / q[i, k]) for k in range(K)) for i in range(6)]
    found = MAZE().divergence(z, Answers("probs", p.log()))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    hidden = p.log().clone()
    hidden[:, 1] = -torch.inf
    assert torch.isfinite(MAZE().divergence(z, Answers("probs", hidden))).all()


OPTIONS = [
    (MAZE(**SMALL, fresh=2, replay=2), change)
    for change in (
        {"queries": 200},
        {"batch": 6},
        {"fresh": 3},
        {"replay": 3},
        {"lr": 0.05},
        {"generator_lr": 1e-2},
        {"adam": True},
        {"memory": 8},
        {"directions": 3},
        {"epsilon": 0.5},
        {"shared": False},
    )
]


@pytest.mark.parametrize(("rules", "change"), OPTIONS, ids=[next(iter(c)) for _, c in OPTIONS])
def test_every_option_changes_the_student(rules: GameAttack, change: dict[str, float]) -> None:
    def weights(setting: GameAttack) -> Tensor:
        student = setting.attempt(tiny_lab(FULL, 0, original=False))
        return torch.cat([p.flatten() for p in student.network.parameters()])

    first, other = weights(rules), weights(replace(rules, **change))
    assert not torch.equal(first, other)


@pytest.mark.parametrize("attack", [DFME, MAZE])
def test_hidden_probabilities_leave_the_student_finite(attack: type[ZerothOrder]) -> None:
    student = attack(**SMALL).attempt(tiny_lab(Surface("top:1+round:1"), 0, original=False))
    assert not student.report.diverged


def test_the_papers_own_settings_are_presets() -> None:
    assert DFME.presets()["paper"] == DFME(queries=20_000_000, batch=256, replay=0)
    assert MAZE.presets()["paper"] == MAZE(queries=5_000_000, batch=128, directions=10)


def test_a_generator_makes_images_of_any_shape_within_range() -> None:
    for shape in ((1, 8, 8), (3, 10, 7)):
        x = pixels(Generator(shape)(torch.randn(4, 64))).detach()
        assert x.shape == (4, *shape)
        assert float(x.min()) >= 0
        assert float(x.max()) <= 1


def test_a_game_must_say_how_its_generator_improves() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Game(tiny_lab(FULL, 0), DFME(), 0)  # type: ignore[abstract]


@pytest.mark.parametrize("classes", [4, 10, 62])
def test_dfmes_published_mean_takes_the_step_of_the_sum_with_its_rate_times_ten_over_classes(classes: int) -> None:
    z, t = (torch.randn(5, classes, generator=chance(s), dtype=torch.float64) for s in (0, 1))
    batch = Batch(torch.zeros(5, 1, 2, 2), torch.full((5,), -1), Answers("probs", F.log_softmax(t, -1)))
    mean = DFME.presets()["mean"]
    assert mean == DFME(mean=True, lr=0.1)
    steps = {}
    for setting in (DFME(), mean):
        assert isinstance(setting, DFME)
        at = z.clone().requires_grad_()
        (slope,) = torch.autograd.grad(setting.loss(Outputs(at), batch, 0), at)
        steps[setting.mean] = setting.lr * slope
    torch.testing.assert_close(steps[True], steps[False] * 10 / classes)
    apart = [abs(float(z[i, k]) - float(t[i, k] - t[i].mean())) for i in range(5) for k in range(classes)]
    assert float(mean.loss(Outputs(z), batch, 0)) == pytest.approx(sum(apart) / (5 * classes))
