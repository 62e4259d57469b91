"""Every way to train a teacher: its formula against a reference, and that it ends as it says."""

import copy
import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audit.cache.store import Cache
from audit.statistics import cmi
from teachers import guards, intake, methods
from teachers.errors import RefusedInput, UsageError
from teachers.methods.apgp import APGP, Perturb
from teachers.methods.base import TeacherTraining, divergence
from teachers.methods.centroids import Centroids
from teachers.methods.cmim import CMIM, Concentrate
from teachers.methods.distilled import Distilled, Imitate
from teachers.methods.label_smoothing import LabelSmoothing
from teachers.methods.mcmi import MCMI, Spread
from teachers.methods.mixed import CutMix, Mixing, Mixup
from teachers.methods.nasty import Nasty, Undermine
from teachers.methods.student_friendly import Feedback, StudentFriendly
from teachers.names import WAYS_TO_TEACH
from teachers.networks import PreprocessedNetwork
from teachers.storage.store import TrainingCheckpoint
from teachers.targets.runtime import Runtime
from teachers.targets.target import fingerprint
from teachers.targets.teaching import card, recipe_key, taught
from teachers.task import Augment, Pool, Task
from teachers.training import Batch, Outputs, Recipe

K = 3


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def task(n: int = 90, shift: int = 70) -> Task:
    rng = np.random.default_rng(0)

    def pool(n: int) -> Pool:
        labels = np.arange(n) % K
        images = rng.integers(0, 90, (n, 1, 8, 8)) + shift * labels[:, None, None, None]
        return Pool(images.astype(np.uint8), labels.astype(np.int64), Augment(1))

    return Task("tiny", tuple("abc"), pool(n), pool(30), pool(60))


RECIPE = Recipe("strided-4-8", 24, batch=30, views=8)


def teacher_recipe(name: str, seed: int = 0, **settings: str) -> methods.TeacherRecipe:
    return methods.TeacherRecipe(methods.method(name, settings), RECIPE, seed)


def sample(n: int = 60, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 4, generator=chance(), dtype=torch.float64) * scale, torch.arange(n) % 4


def centroids(update: str = "batch", powers: tuple[float, ...] = (1.0,), **more: Any) -> Centroids:
    made = Centroids(powers, 4, update, **more)  # type: ignore[arg-type]
    made.powers, made.sums, made.mass = made.powers.double(), made.sums.double(), made.mass.double()
    return made


@pytest.mark.parametrize("power", [2.0, 1.0, 0.25])
def test_cmi_loss_equals_the_plug_in_estimate(power: float) -> None:
    z, y = sample()
    expected = cmi.curve(z.numpy(), y.numpy(), 4, [1 / power]).plug_in[0]
    assert float(centroids(powers=(power,)).cmi(z, y)[0]) == pytest.approx(expected, rel=1e-9)


def test_every_way_to_teach_is_known_by_its_name_without_torch() -> None:
    assert set(WAYS_TO_TEACH) == set(methods.METHODS)


def test_cmi_is_zero_where_classes_answer_alike() -> None:
    z = torch.randn(4, 4, dtype=torch.float64)[torch.arange(12) % 4]
    assert float(centroids().cmi(z, torch.arange(12) % 4)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_gradient_of_cmi_is_the_analytic_one_and_the_one_through_the_class_means(power: float) -> None:
    """∂/∂z_xj = a P_xj (log P_xj/Q_yj − KL_x) / B: the class means minimise the same expression (envelope theorem)."""
    z, y = sample(24)
    z.requires_grad_()
    (held,) = torch.autograd.grad(centroids(powers=(power,)).cmi(z, y).sum(), z)
    p = F.softmax(power * z, -1)
    q = torch.stack([p[y == c].mean(0) for c in range(4)])[y]
    apart = (p * (p / q).log()).sum(-1)
    (through,) = torch.autograd.grad(apart.mean(), z, retain_graph=True)
    analytic = power * p * ((p / q).log() - apart[:, None]) / len(z)
    torch.testing.assert_close(held, through)
    torch.testing.assert_close(held, analytic.detach())

    def brute(values: Tensor) -> float:
        return float(cmi.curve(values.numpy(), y.numpy(), 4, [1 / power]).plug_in[0])

    base, eps = z.detach(), 1e-6
    for x, j in ((0, 1), (7, 3)):
        step = torch.zeros_like(base)
        step[x, j] = eps
        assert float(held[x, j]) == pytest.approx((brute(base + step) - brute(base - step)) / (2 * eps), rel=1e-4)


def tiny_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, K)).eval()


def test_a_full_pass_gives_the_class_means() -> None:
    pool, network = task().train, tiny_network()
    taken = Centroids((1.0, 0.5), K, "epoch")
    taken.take(network, pool, chunk=7)
    logits = network(torch.from_numpy(pool.images).float() / 255)
    for i, power in enumerate((1.0, 0.5)):
        p = F.softmax(power * logits, -1)
        expected = torch.stack([p[torch.from_numpy(pool.labels == c)].mean(0) for c in range(K)])
        torch.testing.assert_close(taken.means()[i], expected)


@pytest.mark.parametrize("exponent", ["1", "8"])
def test_the_alternating_step_never_increases_cmims_objective(exponent: str) -> None:
    """With the network held fixed: whatever the class means were before a full pass, the loss is not larger after."""
    pool = task().train
    x, y = torch.from_numpy(pool.images).float() / 255, torch.from_numpy(pool.labels)
    method = methods.method("cmim", {"update": "epoch", "exponent": exponent})
    assert isinstance(method, CMIM)
    for seed in range(5):
        means, now = Centroids(method.powers, K, "epoch"), tiny_network(seed + 1)
        means.take(tiny_network(seed), pool)
        loss, batch = Concentrate(method=method, centroids=means), Batch(x, y)
        with torch.no_grad():
            before = float(loss(Outputs(now(x)), batch, 0))
            means.take(now, pool)
            after = float(loss(Outputs(now(x)), batch, 0))
        assert after < before


def test_running_means_forget_exponentially() -> None:
    z, y = sample(20)
    held = centroids("running", decay=0.5)
    held.cmi(z[:12], y[:12])
    held.cmi(z[12:], y[12:])
    p, weight = F.softmax(z, -1), torch.where(torch.arange(20) < 12, 0.5, 1.0).double()
    expected = torch.stack([(weight[y == c, None] * p[y == c]).sum(0) / weight[y == c].sum() for c in range(4)])
    torch.testing.assert_close(held.means()[0], expected)


def test_an_unseen_class_has_uniform_means() -> None:
    assert torch.equal(centroids("epoch").means()[0], torch.full((4, 4), 0.25, dtype=torch.float64))


def test_cmim_joins_the_spectrum_by_a_power_mean_between_mean_and_maximum() -> None:
    z, y = sample()
    powers = (1.0, 0.5, 0.25)
    each = torch.stack([centroids(powers=(a,)).cmi(z, y)[0] * a**-2 for a in powers])
    for exponent, expected in ((1.0, each.mean()), (2.0, (each**2).mean().sqrt()), (200.0, each.max())):
        made = centroids(powers=powers)
        method = CMIM(weight=0.5, powers=powers, exponent=exponent)
        loss = Concentrate(method=method, centroids=made)(Outputs(z), Batch(torch.zeros(1), y), 0)
        assert float((loss - F.cross_entropy(z, y)) / 0.5) == pytest.approx(float(expected), rel=1e-2)


def test_nasty_subtracts_the_divergence_from_the_ordinary_teacher_summed_over_classes() -> None:
    x, y = torch.rand(9, 1, 8, 8), torch.arange(9) % K
    normal, z = tiny_network(), torch.randn(9, K)
    loss = Undermine(Nasty(weight=0.04, temperature=4.0), normal)(Outputs(z), Batch(x, y), 0)
    p, q = F.softmax(z / 4, -1), F.softmax(normal(x) / 4, -1)
    expected = F.cross_entropy(z, y) - 0.04 * 16 * (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(loss, expected)


def test_distilled_is_knowledge_distillation() -> None:
    x, y = torch.rand(9, 1, 8, 8), torch.arange(9) % K
    teacher, z = tiny_network(), torch.randn(9, K, requires_grad=True)
    loss = Imitate(Distilled(temperature=4.0, weight=1.0), teacher)(Outputs(z), Batch(x, y), 0)
    (slope,) = torch.autograd.grad(loss, z)
    torch.testing.assert_close(slope, 4 * (F.softmax(z / 4, -1) - F.softmax(teacher(x) / 4, -1)) / 9)


def test_label_smoothing_spreads_a_share_over_all_classes() -> None:
    z, y = torch.randn(9, K), torch.arange(9) % K
    truth = 0.8 * F.one_hot(y, K) + 0.2 / K
    expected = -(truth * F.log_softmax(z, -1)).sum(-1).mean()
    torch.testing.assert_close(LabelSmoothing(smoothing=0.2)(Outputs(z), Batch(torch.zeros(9), y), 0), expected)


def test_mixup_weighs_the_cross_entropies_of_both_labels() -> None:
    z, y, share = torch.randn(9, K), torch.arange(9) % K, torch.rand(9)
    batch = Batch(torch.zeros(9), y, partner=y.roll(1), weight=share)
    first, second = (F.cross_entropy(z, label, reduction="none") for label in (y, y.roll(1)))
    torch.testing.assert_close(Mixup()(Outputs(z), batch, 0), (share * first + (1 - share) * second).mean())


def test_mcmi_subtracts_the_cmi_of_the_batch() -> None:
    z, y = sample()
    loss = Spread(method=MCMI(weight=0.3), centroids=centroids())(Outputs(z), Batch(z, y), 0)
    expected = F.cross_entropy(z, y) - 0.3 * cmi.curve(z.numpy(), y.numpy(), 4, [1.0]).plug_in[0]
    torch.testing.assert_close(loss, expected)


def test_apgp_subtracts_what_the_shown_answer_is_away_from_the_own_one_up_to_a_limit() -> None:
    x, y = torch.rand(9, 1, 8, 8), torch.arange(9) % K
    normal, z = tiny_network(), 3 * torch.randn(9, K)
    loss = Perturb(APGP(weight=0.5, most=1.0), normal)(Outputs(z), Batch(x, y), 0)
    p, q = F.softmax(z, -1), F.softmax(normal(x), -1)
    apart = (p * (p / q).log()).sum(-1)
    assert 0 < (apart > 1).sum() < 9
    torch.testing.assert_close(loss, F.cross_entropy(z, y) - 0.5 * apart.minimum(torch.tensor(1.0)).mean())


def test_apgp_as_published_subtracts_what_the_own_answer_is_away_from_the_shown_one_without_a_limit() -> None:
    x, y = torch.rand(9, 1, 8, 8), torch.arange(9) % K
    normal, z = tiny_network(), 3 * torch.randn(9, K)
    loss = Perturb(APGP(weight=0.5, most=0.01, form="published"), normal)(Outputs(z), Batch(x, y), 0)
    shown, own = F.softmax(z, -1).tolist(), F.softmax(normal(x), -1).tolist()
    apart = [sum(p * math.log(p / q) for p, q in zip(*rows, strict=True)) for rows in zip(own, shown, strict=True)]
    truth = [-math.log(row[label]) for row, label in zip(shown, y.tolist(), strict=True)]
    assert float(loss) == pytest.approx(sum(truth) / 9 - 0.5 * sum(apart) / 9, rel=1e-4)


def test_apgp_as_published_shows_the_softmax_of_probabilities_plus_the_networks_output() -> None:
    guard, log_p = guards.PublishedResidual(K), F.log_softmax(3 * torch.randn(7, K), -1)
    logits = log_p.exp() + guard.body(log_p.exp())
    torch.testing.assert_close(guard(log_p).exp(), logits.exp() / logits.exp().sum(-1, keepdim=True))
    hidden = guard(torch.tensor([[0.0, -torch.inf, -torch.inf]]))
    assert torch.isfinite(hidden).all(), "a class that is not shown has the probability 0"


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_an_apgp_teacher_of_either_form_is_opened_as_what_it_is(suffix: str, tmp_path: Path) -> None:
    held, shown = task(), []
    plain = methods.teach(teacher_recipe("plain"), held).network.network.state_dict
    for form in ("bounded", "published"):
        recipe = teacher_recipe("apgp", form=form)
        made = methods.teach(recipe, held, plain=plain)
        path, described = tmp_path / f"{form}{suffix}", card(recipe, held, "tiny", made)
        intake.save_teacher(made.network, described, path)
        opened = intake.open_weights(path)
        again = intake.assemble(opened, RECIPE.architecture, K, held.shape, described.normalize)
        x = torch.rand(4, 1, 8, 8, generator=chance())
        shown.append(again.network.eval()(x))
        assert torch.equal(shown[-1], made.network.eval()(x))
        assert again.card is not None
        assert again.card.settings.get("form", "bounded") == form
    assert not torch.equal(*shown)


def test_frozen_class_means_are_those_of_the_ordinary_teacher_on_a_view_of_every_image() -> None:
    """In training mode, as in the public code; brute force over the views that the first epoch shows."""
    held, met = task(), []
    plain = methods.teach(teacher_recipe("plain"), held).network.network.state_dict()

    class Watched(TeacherTraining):
        def fit(self, objective: Any, **given: Any) -> Any:
            met.append((objective, copy.deepcopy(objective.centroids.means())))
            student = super().fit(objective, **given)
            met.append((objective, objective.centroids.means()))
            return student

    trainer = Watched(held, RECIPE, 0, lambda: plain)
    MCMI(update="frozen", share=1.0).teach(trainer)
    network, stream = trainer.ordinary().train(), trainer.stream(RECIPE)
    sums, counts = torch.zeros(K, K), torch.zeros(K)
    for step in range(3):  # 90 images in batches of 30
        batch = stream.next(step, network)
        for row, label in zip(F.softmax(network(batch.x), -1), batch.labels.tolist(), strict=True):
            sums[label] += row
            counts[label] += 1
    assert counts.tolist() == [30, 30, 30]
    for _, means in met:
        torch.testing.assert_close(means[0], sums / counts[:, None])


def test_frozen_class_means_make_another_teacher_than_those_of_every_epoch() -> None:
    held = task()
    plain = methods.teach(teacher_recipe("plain"), held).network.network.state_dict
    weights = [
        torch.cat([p.flatten() for p in methods.teach(one, held, plain=plain).network.parameters()])
        for one in (teacher_recipe("mcmi", share="1", update=update) for update in ("epoch", "frozen"))
    ]
    assert not torch.equal(*weights)


# Of a recipe with a method's defaults, before the first of its fields came later.
RECIPES = {"apgp": "c30b0d14ef335f5f", "mcmi": "0e9dd14a9fb5e734", "cmim": "871da008ec37b1c9"}


@pytest.mark.parametrize("name", RECIPES)
def test_teachers_of_earlier_settings_are_found_in_the_cache(name: str) -> None:
    key = recipe_key(teacher_recipe(name), task(), "cpu")
    assert hashlib.sha256(key.encode()).hexdigest()[:16] == RECIPES[name]


def test_a_later_setting_counts_where_it_is_not_the_default() -> None:
    assert "form" not in APGP().settings
    assert APGP(form="published").settings == APGP().settings | {"form": "published"}
    other = teacher_recipe("apgp", form="published")
    assert recipe_key(other, task(), "cpu") != recipe_key(teacher_recipe("apgp"), task(), "cpu")


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_a_mixture_says_how_much_of_whom_it_holds(kind: type[Mixup]) -> None:
    class One:
        view, source = "crop", "original"

        def next(self, step: int, student: nn.Module) -> Batch:
            # Every pixel of image i is i, so that a mixture's mean tells the shares.
            return Batch(torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 1, 8, 8), torch.arange(6))

    torch.manual_seed(0)
    shares = set()
    for step in range(20):
        batch = Mixing(One(), kind().mixture).next(step, nn.Identity())  # type: ignore[arg-type]
        assert batch.partner is not None
        assert batch.weight is not None
        expected = batch.weight * batch.labels + (1 - batch.weight) * batch.partner
        torch.testing.assert_close(batch.x.mean((1, 2, 3)), expected)
        shares.add(float(batch.weight[0]))
        if kind is CutMix:
            assert set(batch.x[2].unique().tolist()) <= {1.0, 2.0}
    assert len(shares) > 5
    truth = batch.truth(6)
    torch.testing.assert_close(truth[1, 1] + truth[1, 0], torch.tensor(1.0))


def test_a_stingy_teacher_shows_its_largest_logits_alone() -> None:
    held = task()
    plain, stingy = (
        methods.teach(teacher_recipe(name, **s), held) for name, s in (("plain", {}), ("stingy", {"share": "0.7"}))
    )
    x = torch.rand(5, 1, 8, 8)
    full, shown = F.softmax(plain.network(x), -1), stingy.network(x).exp()
    kept = full >= full.topk(2, -1).values[:, -1:]
    torch.testing.assert_close(shown, full * kept / (full * kept).sum(-1, keepdim=True))


def test_mcmi_starts_from_the_ordinary_teacher_and_raises_its_cmi() -> None:
    held, seen = task(), {}
    longer = replace(RECIPE, steps=120)
    plain = methods.teach(methods.TeacherRecipe(methods.method("plain"), longer), held).network

    def given() -> dict[str, Tensor]:
        seen["asked"] = True
        return plain.network.state_dict()

    still = methods.TeacherRecipe(methods.method("mcmi", {"rate": "0"}), longer)
    same = methods.teach(still, held, plain=given)
    assert seen == {"asked": True}
    assert same.student.report.recipe.steps == 10
    for name, value in plain.network.named_parameters():
        assert torch.equal(dict(same.network.network.named_parameters())[name], value)
    spread = methods.teach(
        replace(still, method=methods.method("mcmi", {"weight": "2", "rate": "0.1"})), held, plain=given
    )
    assert told(spread.network, held) > told(plain, held)


def told(network: nn.Module, held: Task) -> float:
    with torch.no_grad():
        z = network(torch.from_numpy(held.train.images).float() / 255)
    return float(cmi.curve(z.numpy(), np.asarray(held.train.labels), K, [1.0]).plug_in[0])


def test_cmim_lowers_cmi_below_that_of_the_ordinary_teacher() -> None:
    held, longer = task(shift=10), replace(RECIPE, steps=60)
    plain = methods.teach(methods.TeacherRecipe(methods.method("plain"), longer), held).network
    for update in ("batch", "epoch", "running"):
        cmim = methods.TeacherRecipe(methods.method("cmim", {"update": update}), longer)
        assert told(methods.teach(cmim, held).network, held) < 0.6 * told(plain, held)


def test_a_guard_is_part_of_what_a_teacher_is(tmp_path: Path) -> None:
    held, place = task(), Runtime(Cache(tmp_path), "cpu", print)
    few, more = (taught(teacher_recipe("stingy", share=share), held, place, "t") for share in ("0.7", "1"))
    assert fingerprint(few) != fingerprint(more)
    other = replace(held, test=held.validation)
    assert recipe_key(teacher_recipe("plain"), held, "cpu") != recipe_key(teacher_recipe("plain"), other, "cpu")


@pytest.mark.parametrize("name", ["apgp", "purified"])
def test_a_learned_guard_is_the_identity_at_first_and_leaves_the_network_alone(name: str) -> None:
    held = task()
    plain = methods.teach(teacher_recipe("plain"), held).network
    x = torch.rand(4, 1, 8, 8)
    fresh = guards.behind(plain, guards.LEARNED[name](K))
    torch.testing.assert_close(fresh(x), F.log_softmax(plain(x), -1), atol=0.2 if name == "apgp" else 1e-6, rtol=0)
    guarded = methods.teach(teacher_recipe(name), held, plain=plain.network.state_dict).network
    inner = guarded.network
    assert isinstance(inner, guards.GuardedNetwork)
    for key, value in plain.network.state_dict().items():
        assert torch.equal(inner.network.state_dict()[key], value), key
    assert not torch.allclose(guarded(x), fresh(x))


def test_purification_lowers_the_cmi_of_what_is_shown() -> None:
    held, longer = task(shift=10), replace(RECIPE, steps=60)
    plain = methods.teach(methods.TeacherRecipe(methods.method("plain"), longer), held).network
    purified = methods.TeacherRecipe(methods.method("purified", {"share": "1"}), longer)
    shown = methods.teach(purified, held, plain=plain.network.state_dict).network
    assert told(shown, held) < 0.6 * told(plain, held)


@pytest.mark.parametrize("name", sorted(methods.METHODS))
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_every_method_teaches_a_teacher_that_is_saved_whole(name: str, suffix: str, tmp_path: Path) -> None:
    held = task()
    made = methods.teach(teacher_recipe(name), held)
    assert not made.student.report.diverged
    described = card(teacher_recipe(name), held, "tiny", made)
    intake.save_teacher(made.network, described, tmp_path / f"t{suffix}")
    opened = intake.open_weights(tmp_path / f"t{suffix}")
    again = intake.assemble(opened, RECIPE.architecture, K, held.shape, described.normalize)
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(again.network.eval()(x), made.network.eval()(x))
    assert again.method == name


def test_apgp_moves_away_from_its_own_answers() -> None:
    held, longer = task(shift=10), replace(RECIPE, steps=600)
    plain = methods.teach(methods.TeacherRecipe(methods.method("plain"), replace(longer, steps=60)), held).network
    made = methods.teach(methods.TeacherRecipe(methods.method("apgp"), longer), held, plain=plain.network.state_dict)
    assert made.measured["KL to its own answers"] > 0.02


def test_nasty_reports_the_divergence_it_reached() -> None:
    held = task()
    made = methods.teach(teacher_recipe("nasty", weight="0.05", temperature="4"), held)
    plain = methods.teach(teacher_recipe("plain"), held).network
    x = torch.from_numpy(held.validation.images).float() / 255
    with torch.no_grad():
        expected = float(divergence(made.network(x), plain(x), 4.0))
    assert made.measured["KL to the ordinary teacher at temperature 4"] == pytest.approx(expected, rel=1e-4)
    assert expected > 0


def test_a_students_feedback_is_differentiated_through_its_course_step() -> None:
    """Against finite differences of the exam in one of the teacher's logits, the pupil's step taken anew each time."""
    torch.manual_seed(0)
    pupil = nn.Sequential(nn.Flatten(), nn.Linear(64, K)).double()
    x, y = torch.rand(8, 1, 8, 8, dtype=torch.float64), torch.arange(8) % K
    z = torch.randn(8, K, dtype=torch.float64)
    method = StudentFriendly(weight=1.0, temperature=2.0, pace=0.5)

    def exam(logits: Tensor) -> Tensor:
        loss = Feedback(method, pupil)(Outputs(logits), Batch(x, y), 0)
        return loss - F.cross_entropy(logits, y)

    (slope,) = torch.autograd.grad(exam(z.requires_grad_()), z)
    for i, k in ((0, 1), (3, 2)):
        step = torch.zeros_like(z)
        step[i, k] = 1e-5
        expected = float((exam(z.detach() + step) - exam(z.detach() - step)).detach()) / 2e-5
        assert float(slope[i, k]) == pytest.approx(expected, rel=1e-4)
        assert abs(expected) > 1e-6
    assert torch.equal(slope[4:], torch.zeros(4, K))


class Stop(Exception):
    pass


class Impatient(TrainingCheckpoint):
    """Saves at one step and is killed there."""

    def __init__(self, path: Path, at: int | None) -> None:
        super().__init__(path)
        self.at, self.asked = at, 0

    def due(self) -> bool:
        self.asked += 1
        return self.asked == self.at

    def save(self, state: dict[str, Any]) -> None:
        super().save(state)
        raise Stop


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("plain", {}),
        ("mixup", {}),
        ("cmim", {"update": "running"}),
        ("cmim", {"update": "epoch"}),
        ("mcmi", {"share": "1", "update": "frozen"}),
        ("apgp", {"share": "1"}),
        ("student-friendly", {"share": "1", "pupil": "strided-4-8"}),
    ],
)
def test_an_interrupted_lesson_goes_on_to_the_same_teacher(name: str, settings: dict[str, str], tmp_path: Path) -> None:
    held, one = task(), teacher_recipe(name, **settings)
    plain = methods.teach(teacher_recipe("plain"), held).network.network.state_dict
    whole = methods.teach(one, held, plain=plain).network.state_dict()
    with pytest.raises(Stop):
        methods.teach(one, held, plain=plain, checkpointer=Impatient(tmp_path / "part", at=11))
    second = Impatient(tmp_path / "part", at=None)
    resumed = methods.teach(one, held, plain=plain, checkpointer=second)
    assert second.asked == resumed.student.report.recipe.steps - 11, "only what was left is trained"
    for key, value in resumed.network.state_dict().items():
        assert torch.equal(value, whole[key]), key


def test_a_damaged_unfinished_lesson_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"nothing")
    assert TrainingCheckpoint(tmp_path / "part").load() is None


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nasti", {}, "did you mean nasty"),
        ("cmim", {"lambda": "1"}, "has no setting 'lambda'; there are weight"),
        ("cmim", {"powers": "a/b"}, "powers=a/b should be a valid number.*the default is 1"),
        ("cmim", {"powers": "1/0"}, "should be greater than 0"),
        ("cmim", {"update": "never"}, "should be 'batch', 'epoch' or 'running'"),
        ("mcmi", {"update": "never"}, "should be 'batch', 'epoch', 'running' or 'frozen'"),
        ("apgp", {"form": "paper"}, "should be 'bounded' or 'published'.*the default is bounded"),
        ("nasty", {"weight": "-1"}, "weight=-1 should be greater than or equal to 0; the default is 0.015"),
        ("nasty", {"temperature": "0"}, "should be greater than 0"),
        ("mixup", {"alpha": "0"}, "should be greater than 0"),
        ("label-smoothing", {"smoothing": "2"}, "should be less than or equal to 1"),
        ("distilled", {"temperature": "inf"}, "should be a finite number"),
        ("plain", {"weight": "1"}, "it has none"),
    ],
)
def test_bad_settings_get_a_sentence(name: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        methods.method(name, settings)


def test_a_pupil_that_is_no_network_gets_a_sentence() -> None:
    with pytest.raises(UsageError, match="unknown architecture 'strided_4'"):
        methods.teach(teacher_recipe("student-friendly", pupil="strided_4"), task())


def test_a_checkpoints_guard_is_built_from_known_names_alone() -> None:
    with pytest.raises(RefusedInput, match="cannot be built"):
        guards.restore("os.system", K, {})
    with pytest.raises(RefusedInput, match="cannot be built"):
        guards.restore("apgp", K, {})


def test_settings_are_read_as_what_they_are() -> None:
    method = methods.method("cmim", {"powers": "1/0.5", "weight": "2", "update": "running"})
    assert method == CMIM(powers=(1.0, 0.5), weight=2.0, update="running")


def test_the_school_counts_epochs_and_freezes_the_ordinary_teacher() -> None:
    held = task()
    trainer = TeacherTraining(held, RECIPE, 0, methods.teach(teacher_recipe("plain"), held).network.network.state_dict)
    assert trainer.epoch(RECIPE) == 3
    ordinary = trainer.ordinary()
    assert isinstance(ordinary, PreprocessedNetwork)
    assert not any(p.requires_grad for p in ordinary.parameters())
    assert not ordinary.training
