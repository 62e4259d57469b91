"""IDEAL against loops and limits; no image is asked about twice."""

import math

import pytest
import torch
from torch import nn

from attacks.contract import CLASSES, SHAPE, tiny_lab
from attacks.data_free.ideal import IDEAL, Dreams, balanced, dreaming, long_enough
from attacks.data_free.memory import Memory, eight_bit
from teachers.surface import FULL, Answers
from teachers.training import Recipe

SMALL = IDEAL(queries=48, rounds=3, generator_steps=2, generator_batch=8)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_dreams_loss_is_cross_entropy_and_negative_entropy_of_the_mean_by_brute_force() -> None:
    z, wanted = torch.randn(6, 4, generator=chance(), dtype=torch.float64), [0, 1, 2, 3, 3, 1]
    rows = [[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in z.tolist()]
    ce = -sum(math.log(row[y]) for row, y in zip(rows, wanted, strict=True)) / 6
    mean = [sum(row[c] for row in rows) / 6 for c in range(4)]
    expected = ce + 5 * sum(p * math.log(p) for p in mean)
    assert float(dreaming(z, torch.tensor(wanted), 5.0)) == pytest.approx(expected, rel=1e-9)


def test_the_public_loss_has_the_mean_of_p_log_p_over_images_and_classes_by_brute_force() -> None:
    z, wanted = torch.randn(6, 4, generator=chance(), dtype=torch.float64), [0, 1, 2, 3, 3, 1]
    rows = [[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in z.tolist()]
    ce = -sum(math.log(row[y]) for row, y in zip(rows, wanted, strict=True)) / 6
    expected = ce + 5 * sum(p * math.log(p) for row in rows for p in row) / 24
    assert float(dreaming(z, torch.tensor(wanted), 5.0, sample=True)) == pytest.approx(expected, rel=1e-9)


def test_the_public_code_is_the_fifth_setting() -> None:
    assert IDEAL.grid()[4] == IDEAL(sample=True, best=True)


def test_the_best_images_of_a_round_are_those_of_the_smallest_loss_and_not_the_last() -> None:
    lab = tiny_lab(FULL, 0, original=False)
    torch.manual_seed(0)
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)).requires_grad_(False)
    dreams = Dreams(IDEAL(generator_steps=6, generator_batch=16, lr=0.0, contrast=3.0, best=True), lab)
    looks, show = [], dreams._images
    dreams._images = lambda *given: looks.append(show(*given)) or looks[-1]  # type: ignore[method-assign]
    images = dreams._dream(16, student)
    noise = chance(lab.seed)  # what the dreams drew: the noise, then the labels that were wanted
    torch.randn(16, 64, generator=noise)
    wanted = balanced(16, CLASSES, noise)
    costs = [float(dreaming(student(look), wanted, 5.0)) for look in looks]
    assert len(looks) == 6
    assert torch.equal(images, looks[costs.index(min(costs))])
    assert min(costs) < costs[-1]


def test_a_class_that_never_comes_leaves_the_slope_finite() -> None:
    z = torch.tensor([[1000.0, 0.0, 0.0], [1000.0, 0.0, 0.0]], requires_grad=True)
    dreaming(z, torch.tensor([0, 1]), 5.0).backward()
    assert torch.isfinite(z.grad).all()


def test_wanted_labels_are_even_but_for_one_and_in_random_order() -> None:
    labels = balanced(17, 5, chance())
    counts = torch.bincount(labels, minlength=5)
    assert counts.max() - counts.min() == 1
    assert labels.tolist() != balanced(17, 5, chance(1)).tolist()


def test_memory_hands_out_images_with_their_own_answers_and_forgets_the_oldest() -> None:
    memory = Memory(4, (1, 1, 1), "cpu")
    for start in (0, 3):
        level = torch.arange(start, start + 3)
        memory.add((level / 255).reshape(-1, 1, 1, 1), Answers("label", level))
    drawn = memory.draw(200, chance())
    assert drawn.answers is not None
    assert set(drawn.answers.values.tolist()) == {2, 3, 4, 5}
    torch.testing.assert_close(drawn.x.flatten() * 255, drawn.answers.values.float())
    assert (drawn.labels == -1).all()


def test_eight_bit_keeps_levels_and_moves_the_others_by_half_a_level_at_most() -> None:
    levels = torch.arange(256) / 255
    torch.testing.assert_close(eight_bit(levels), levels)
    x = torch.rand(100, generator=chance())
    assert float((eight_bit(x) - x).abs().max()) <= 0.5 / 255 + 1e-6


def test_a_student_sees_every_image_often_enough_but_trains_no_shorter_than_the_recipe() -> None:
    recipe = Recipe("strided-4-4", steps=10, batch=16)
    assert long_enough(recipe, 40, 2.0).steps == 10
    assert long_enough(recipe, 160, 2.0).steps == 20


def test_every_image_is_asked_about_once_over_all_rounds() -> None:
    for attack, rounds in ((SMALL, 3), (IDEAL(queries=47, rounds=40, generator_steps=1, generator_batch=4), 11)):
        lab = tiny_lab(FULL, 0, original=False)
        asked: list[torch.Tensor] = []
        answer = lab.oracle.ask
        lab.oracle.ask = lambda x, answer=answer, asked=asked: (asked.append(x), answer(x))[1]  # type: ignore[misc]
        student = attack.attempt(lab)
        assert lab.oracle.charged == attack.queries == sum(map(len, asked))
        assert student.report.recipe.steps == max(6, round(attack.passes * attack.queries / 16))
        assert len(asked) == rounds


def test_a_smaller_budget_is_kept() -> None:
    lab = tiny_lab(FULL, 0, budget=30, original=False)
    SMALL.attempt(lab)
    assert lab.oracle.charged == 30


def test_the_generator_learns_to_please_the_student() -> None:
    lab = tiny_lab(FULL, 0, original=False)
    torch.manual_seed(0)
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)).requires_grad_(False)
    losses = []
    for steps in (0, 60):
        torch.manual_seed(1)
        dreams = Dreams(IDEAL(generator_steps=steps, generator_batch=48, lr=1e-2, contrast=0.0), lab)
        images = dreams._dream(48, student)
        noise = chance(lab.seed)  # what the dreams drew: the noise, then the labels that were wanted
        torch.randn(48, 64, generator=noise)
        losses.append(float(dreaming(student(images), balanced(48, CLASSES, noise), 5.0)))
    assert losses[1] < losses[0] - 0.3


def test_no_gradient_is_left_on_the_student() -> None:
    lab = tiny_lab(FULL, 0, original=False)
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    Dreams(SMALL, lab)._dream(16, student)
    assert all(p.grad is None for p in student.parameters())


@pytest.mark.parametrize(
    "option",
    [
        {"rounds": 2},
        {"generator_steps": 3},
        {"generator_batch": 8},
        {"width": 4},
        {"lr": 0.1},
        {"balance": 0.0},
        {"brightness": 1.0},
        {"contrast": 0.1},
        {"gathering": 0.2},
        {"passes": 9.0},
        {"queries": 40},
        {"sample": True},
        {"best": True, "generator_steps": 4},
    ],
    ids=str,
)
def test_every_option_changes_the_student(option: dict[str, float]) -> None:
    base = {"queries": 48, "rounds": 3, "generator_steps": 2, "generator_batch": 16, "lr": 0.01}
    x = torch.rand(4, *SHAPE, generator=chance())
    first, other = (
        IDEAL(**setting).attempt(tiny_lab(FULL, 0, original=False)).network(x)  # type: ignore[arg-type]
        for setting in (base, {**base, **option})
    )
    assert not torch.equal(first, other)
