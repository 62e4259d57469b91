"""DFMS against loops and limits; the generator is pushed by the clone alone."""

import math

import pytest
import torch
from torch import nn

from attacks.contract import CLASSES, SHAPE, tiny_lab
from attacks.data_free.dfms import DFMS, GAN, Turns, discriminator, joined, pull
from attacks.data_free.dfms_hl import DFMSHL
from teachers.surface import FULL, Answers, Surface
from teachers.training import Batch

BASE = {"queries": 48, "gan_epochs": 0.2, "settling": 0.1, "gan_batch": 8, "gan_lr": 0.01}


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_clones_pull_is_diversity_and_entropy_by_brute_force() -> None:
    z = torch.randn(5, 4, generator=chance(), dtype=torch.float64)
    rows = [[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in z.tolist()]
    mean = [sum(row[c] for row in rows) / 5 for c in range(4)]
    entropy = -sum(p * math.log(p) for row in rows for p in row) / 5
    expected = 10 * sum(p * math.log(p) for p in mean) + 3 * entropy
    assert float(pull(z, 10.0, 3.0)) == pytest.approx(expected, rel=1e-9)


def test_diversity_pulls_towards_every_class_as_often() -> None:
    one = torch.tensor([[9.0, 0.0], [9.0, 0.0]])
    each = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
    assert float(pull(each, 1.0, 0.0)) == pytest.approx(-math.log(2), abs=1e-3)
    assert float(pull(each, 1.0, 0.0)) < float(pull(one, 1.0, 0.0))


def proxies() -> torch.Tensor:
    """Bright on the left, dark on the right."""
    images = torch.zeros(64, *SHAPE, dtype=torch.uint8)
    images[..., :4] = 220
    return images


def test_the_gan_comes_to_draw_what_the_proxy_images_show() -> None:
    torch.manual_seed(0)
    gan = GAN(proxies(), DFMS(gan_batch=16, gan_lr=5e-3), chance())
    before = gan.images(64)
    for _ in range(60):
        gan.step(None, 0.0)
    after = gan.images(64)
    gaps = [float(x[..., :4].mean() - x[..., 4:].mean()) for x in (before, after)]
    assert gaps[1] > 0.3 > abs(gaps[0]) + 0.1
    torch.testing.assert_close(after * 255, (after * 255).round(), atol=1e-3, rtol=0)


def test_a_clone_pushes_the_generator_and_is_left_as_it_was() -> None:
    clone = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    spread = []
    for diversity in (0.0, 500.0):
        torch.manual_seed(0)
        clone[1].weight.data.normal_(generator=chance(5))
        gan = GAN(proxies(), DFMS(gan_batch=32, gan_lr=5e-3), chance())
        for _ in range(40):
            gan.step(clone, diversity)
        spread.append(float(pull(clone(gan.images(128)).detach(), 1.0, 0.0)))
    assert spread[1] < spread[0] - 0.1
    assert all(p.grad is None for p in clone.parameters())


def test_the_clone_sees_proxy_images_alone_and_then_half_and_half() -> None:
    lab = tiny_lab(FULL, 0, original=False)
    turns = Turns(DFMS(**BASE), lab)  # type: ignore[arg-type]
    clone = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    known = {row.numpy().tobytes() for row in torch.from_numpy(lab.surrogate.images)}
    shares = []
    for step in range(turns.recipe.steps):
        x = (turns.next(step, clone).x * 255).round().to(torch.uint8)
        shares.append(sum(row.numpy().tobytes() in known for row in x) / len(x))
    alone = round(0.25 * turns.recipe.steps)
    assert shares[:alone] == [1.0] * alone
    assert shares[-1] == 0.5
    assert lab.oracle.charged == 48


def test_a_batch_of_two_kinds_keeps_answers_beside_their_images() -> None:
    a, b = (Batch(torch.full((2, *SHAPE), v), torch.tensor([-1, -1]), Answers("label", torch.tensor([int(v)] * 2)))
            for v in (0.0, 1.0))  # fmt: skip
    both = joined(a, b)
    assert both.answers is not None
    assert both.x[:, 0, 0, 0].tolist() == both.answers.values.tolist() == [0, 0, 1, 1]


def test_a_discriminator_gives_one_logit_for_odd_sizes_too() -> None:
    for shape in ((1, 8, 8), (3, 17, 30)):
        assert discriminator(shape, 4)(torch.rand(2, *shape)).shape == (2, 1)


@pytest.mark.parametrize("attack", [DFMS, DFMSHL])
@pytest.mark.parametrize(("budget", "generated"), [(None, 0.5), (30, 0.5), (None, 0.0), (None, 1.0)])
def test_the_ledger_is_the_claim_and_a_budget_is_kept(attack: type[DFMS], budget: int | None, generated: float) -> None:
    lab = tiny_lab(FULL, 0, budget=budget, original=False)
    attack(**{**BASE, "generated": generated}).attempt(lab)  # type: ignore[arg-type]
    assert lab.oracle.charged == (budget or 48)


def test_more_queries_than_proxy_images_go_to_the_generator() -> None:
    lab = tiny_lab(FULL, 0, original=False)
    DFMS(**{**BASE, "queries": 300}).attempt(lab)  # type: ignore[arg-type]
    assert lab.oracle.charged == 300


def student(attack: DFMS, surface: str = "probs") -> torch.Tensor:
    trained = attack.attempt(tiny_lab(Surface(surface), 0, original=False))
    logits: torch.Tensor = trained.network(torch.rand(4, *SHAPE, generator=chance()))
    return logits


def test_hard_labels_are_all_that_the_second_attack_uses() -> None:
    hard = DFMSHL(**BASE)  # type: ignore[arg-type]
    assert torch.equal(student(hard, "probs"), student(hard, "label"))
    assert not torch.equal(student(hard), student(DFMS(**BASE)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option",
    [
        {"queries": 40},
        {"generated": 0.3},
        {"gan_epochs": 0.3},
        {"gan_batch": 4},
        {"gan_lr": 0.1},
        {"width": 4},
        {"alone": 0.6},
        {"settling": 0.3},
        {"small_diversity": 0.0},
        {"diversity": 0.0},
        {"entropy": 100.0},
        {"passes": 9.0},
        {"made": 0.2},
        {"shift": 1 / 8},
    ],
    ids=str,
)
def test_every_option_changes_the_student(option: dict[str, float]) -> None:
    assert not torch.equal(student(DFMS(**BASE)), student(DFMS(**{**BASE, **option})))  # type: ignore[arg-type]


def test_an_epoch_of_the_gan_shows_every_proxy_image_once() -> None:
    gan = GAN(proxies(), DFMS(gan_batch=10), chance())
    taken: list[float] = []
    gan.step = lambda clone, diversity: taken.append(diversity)  # type: ignore[method-assign]
    gan.train(2.0, None, 3.0)
    assert taken == [3.0] * 13


def test_the_share_of_generated_images_in_a_batch_is_that_of_the_authors_code() -> None:
    """0.8 generated images for one proxy image."""
    views = DFMS.presets()["views"]
    assert isinstance(views, DFMS)
    assert views.made / (1 - views.made) == pytest.approx(0.8)
    lab = tiny_lab(FULL, 0, original=False)
    turns = Turns(DFMS(**{**BASE, "made": views.made}), lab)  # type: ignore[arg-type]
    clone = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    known = {row.numpy().tobytes() for row in torch.from_numpy(lab.surrogate.images)}
    for step in range(turns.recipe.steps):
        x = (turns.next(step, clone).x * 255).round().to(torch.uint8)
    assert len(x) == 16
    assert sum(row.numpy().tobytes() in known for row in x) == 16 - 7  # 16 · 0.8/1.8 = 7.1


def test_crops_show_proxy_images_shifted_beside_the_answers_about_the_whole_ones() -> None:
    lab = tiny_lab(FULL, 0, original=False)
    turns = Turns(DFMS(**{**BASE, "shift": 1 / 8}), lab)  # type: ignore[arg-type]
    whole = torch.from_numpy(lab.surrogate.images).float().div(255)
    answers = lab.oracle.ask(whole).values
    x, told = [], []
    for step in range(3):
        batch = turns.next(step, nn.Identity())
        assert batch.answers is not None
        x, told = [*x, *batch.x], [*told, *batch.answers.values]
    moved = 0
    for image, answer in zip(x, told, strict=True):
        (row,) = torch.isclose(answers, answer).all(1).nonzero().flatten().tolist()
        wide = torch.nn.functional.pad(whole[row][None], (1, 1, 1, 1), mode="replicate")[0]
        shifts = [(a, b) for a in range(3) for b in range(3) if torch.equal(wide[:, a : a + 8, b : b + 8], image)]
        assert shifts, "every image is its proxy image, shifted by a pixel at most"
        moved += shifts != [(1, 1)]
    assert 0.6 < moved / len(x) < 1
    assert lab.oracle.charged == 24, "crops cost no query"
