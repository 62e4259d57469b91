"""Attacks that see probabilities about the original images, each against an independent reference."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.contract import CLASSES, tiny_lab
from attacks.logits.ckd import CKD, between_pairs
from attacks.logits.ctkd import CTKD, Curriculum, tempered
from attacks.logits.dist import DIST, pearson
from attacks.logits.function_matching import FunctionMatching
from attacks.logits.mlkd import MLKD, TEMPERATURES
from attacks.logits.mse import MSE, squared
from attacks.logits.nkd import NKD
from attacks.logits.rolewise import CANDIDATES, RoleWise
from attacks.logits.soft_kd import SoftKD
from attacks.logits.ttm import TTM
from attacks.losses import kd
from teachers.surface import FULL, Answers
from teachers.task import UNLABELLED
from teachers.training import Batch, Outputs

B, K = 8, 5


def logits(seed: int, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(B, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def batch(teacher: torch.Tensor | None = None) -> Batch:
    y = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])
    return Batch(
        torch.zeros(B, 1, 2, 2), y, Answers("probs", F.log_softmax(logits(100) if teacher is None else teacher, -1))
    )


def truncated(count: int) -> Batch:
    shown = F.log_softmax(logits(100), -1)
    kept = shown.topk(count, -1).indices
    return replace(
        batch(), answers=Answers("probs", torch.full_like(shown, -torch.inf).scatter(-1, kept, shown.gather(-1, kept)))
    )


def softmax(row: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    e = np.exp(row / temperature)
    return e / e.sum()


def ce(z: torch.Tensor) -> float:
    return float(F.cross_entropy(z, batch().labels))


def same(a: Attack, b: Attack, seed: int = 0) -> bool:
    one, two = (x.attempt(tiny_lab(FULL, seed)).network.state_dict().values() for x in (a, b))
    return all(torch.equal(x, y) for x, y in zip(one, two, strict=True))


@pytest.mark.parametrize(("gamma", "T"), [(0.7, 2.0), (3.5, 3.0)])
def test_nkd_by_loops_over_classes(gamma: float, T: float) -> None:
    z, t = logits(0).numpy(), logits(100).numpy()
    total = 0.0
    for i, y in enumerate(batch().labels.tolist()):
        total -= softmax(t[i])[y] * math.log(softmax(z[i])[y])
        others = [k for k in range(K) if k != y]
        p, q = softmax(t[i][others], T), softmax(z[i][others], T)
        total -= gamma * T * T * float((p * np.log(q)).sum())
    attack = NKD(gamma=gamma, temperature=T)
    assert float(attack.distilled(logits(0), batch())) == pytest.approx(total / B, rel=1e-9)
    assert float(attack.loss(Outputs(logits(0)), batch(), 0)) == pytest.approx(total / B + ce(logits(0)), rel=1e-9)


def test_nkd_learns_from_the_target_alone_where_no_other_class_was_shown() -> None:
    now = truncated(1)
    assert now.answers is not None
    now = replace(now, labels=torch.full((B,), UNLABELLED))
    told = now.answers.labels
    expected = F.cross_entropy(logits(0), told)  # what was shown, renormalised, is certain
    torch.testing.assert_close(NKD().distilled(logits(0), now), expected)


def test_pearson_agrees_with_numpy_and_is_still_where_a_row_is_constant() -> None:
    a, b = logits(1), logits(2).requires_grad_()
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a.numpy(), b.detach().numpy(), strict=True)]
    torch.testing.assert_close(pearson(a, b), torch.tensor(expected))
    still = pearson(torch.full((B, K), 0.2, dtype=torch.float64), b)
    still.sum().backward()
    assert b.grad is not None
    torch.testing.assert_close(still.detach(), torch.zeros(B, dtype=torch.float64))
    torch.testing.assert_close(b.grad, torch.zeros_like(b))
    rounding = pearson(0.2 + 1e-9 * a, b.detach())
    assert float(rounding.abs().max()) < 0.02


@pytest.mark.parametrize(("beta", "gamma", "T"), [(1.5, 0.5, 2.0), (2.0, 2.0, 4.0)])
def test_dist_compares_classes_of_an_image_and_images_of_a_class(beta: float, gamma: float, T: float) -> None:
    p, q = (np.stack([softmax(row, T) for row in logits(seed).numpy()]) for seed in (100, 0))
    inter = np.mean([1 - np.corrcoef(p[i], q[i])[0, 1] for i in range(B)])
    intra = np.mean([1 - np.corrcoef(p[:, k], q[:, k])[0, 1] for k in range(K)])
    loss = DIST(beta=beta, gamma=gamma, temperature=T).loss(Outputs(logits(0)), batch(), 0)
    assert float(loss) == pytest.approx(ce(logits(0)) + T * T * (beta * inter + gamma * intra), rel=1e-6)
    assert float(DIST().distilled(logits(100), batch())) == pytest.approx(0, abs=1e-9)


def test_mse_is_a_sum_of_squares_between_centred_logits() -> None:
    z, t = logits(0).numpy(), logits(100).numpy()
    total = sum(((z[i] - z[i].mean() - t[i] + t[i].mean()) ** 2).sum() for i in range(B)) / B / (2 * K)
    assert float(squared(Outputs(logits(0)), batch())) == pytest.approx(total, rel=1e-6)
    loss = MSE(weight=1.8).loss(Outputs(logits(0)), batch(), 0)
    assert float(loss) == pytest.approx(ce(logits(0)) + 1.8 * total, rel=1e-6)


def test_mse_is_the_limit_of_kd_at_high_temperature() -> None:
    z, T = logits(0), 1e4
    expected = kd(z, F.softmax(logits(100) / T, -1), T)
    assert float(squared(Outputs(z), batch())) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("gamma", [0.25, 2.0, 4.0])
def test_ttm_tempers_the_teacher_and_never_the_student(gamma: float) -> None:
    z, t = logits(0).numpy(), logits(100).numpy()
    parts, sums = [], []
    for i in range(B):
        p, q = softmax(t[i], 1 / gamma), softmax(z[i])
        parts.append(float((p * np.log(p / q)).sum()))
        sums.append(float((softmax(t[i]) ** gamma).sum()))
    plain, weighted = TTM(gamma=gamma, beta=3.0), TTM(gamma=gamma, beta=3.0, weighted=True)
    assert float(plain.distilled(logits(0), batch())) == pytest.approx(np.mean(parts), rel=1e-6)
    assert float(weighted.distilled(logits(0), batch())) == pytest.approx(np.mean(np.multiply(sums, parts)), rel=1e-6)
    expected = ce(logits(0)) + 3 * np.mean(parts)
    assert float(plain.loss(Outputs(logits(0)), batch(), 0)) == pytest.approx(expected, rel=1e-6)


def test_ttm_with_an_exponent_above_one_undoes_a_temperature() -> None:
    """A teacher that answers at T = 4 gives, to the power of 4, what it thinks."""
    flat, honest = batch(logits(100) / 4), batch()
    undone, told = (TTM(gamma=g).distilled(logits(0), b) for g, b in ((4.0, flat), (1.0, honest)))
    torch.testing.assert_close(undone, told)


@pytest.mark.parametrize("weighted", [False, True])
def test_ttm_with_exponent_one_is_kd_at_temperature_one(weighted: bool) -> None:
    expected = kd(logits(0), F.softmax(logits(100), -1), 1.0)
    torch.testing.assert_close(TTM(gamma=1.0, weighted=weighted).distilled(logits(0), batch()), expected)


def test_ckd_by_brute_force_over_pairs() -> None:
    z, t = (x - x.mean(-1, keepdims=True) for x in (logits(0).numpy(), logits(100).numpy()))
    pairs = [((z[i] - z[j] - t[i] + t[j]) ** 2).sum() for i in range(B) for j in range(B) if i != j]
    loss = CKD(weight=0.3).loss(Outputs(logits(0)), batch(), 0)
    assert float(loss) == pytest.approx(ce(logits(0)) + 0.3 * np.mean(pairs) / (2 * K), rel=1e-6)
    assert float(between_pairs(logits(0)[:1])) == 0


def test_ckd_ignores_what_all_answers_have_in_common() -> None:
    z, common = Outputs(logits(0)), torch.arange(K, dtype=torch.float64)
    shifted = batch(logits(100) + common)
    torch.testing.assert_close(CKD().loss(z, shifted, 0), CKD().loss(z, batch(), 0))
    assert not torch.isclose(squared(z, shifted), squared(z, batch()), rtol=1e-2)


def test_ctkd_softens_both_sides_with_its_temperature() -> None:
    attack = CTKD(weight=0.7, start=2.0, span=4.0)
    objective = Curriculum(attack, steps=240, device="cpu")
    T = 2 + 4 / (1 + math.exp(-1))
    loss = objective(Outputs(logits(0)), batch(), 0)
    expected = 0.3 * ce(logits(0)) + 0.7 * float(kd(logits(0), F.softmax(logits(100) / T, -1), T))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("step", "strength"), [(0, 0.0), (5, 0.5), (10, 1.0), (200, 1.0)])
def test_ctkd_climbs_along_the_true_derivative_as_its_reversal_rises(step: int, strength: float) -> None:
    objective = Curriculum(CTKD(weight=1.0), steps=240, device="cpu")
    objective.theta.data = objective.theta.data.double()
    objective(Outputs(logits(0)), batch(), step).backward()

    def value(theta: float) -> float:
        T = 1 + 20 / (1 + math.exp(-theta))
        return float(kd(logits(0), F.softmax(logits(100) / T, -1), T))

    slope = (value(1 + 1e-4) - value(1 - 1e-4)) / 2e-4
    assert objective.theta.grad is not None
    assert float(objective.theta.grad) == pytest.approx(-strength * slope, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("shown", [1, 2, 4])
def test_ctkd_has_a_derivative_where_classes_are_hidden(shown: int) -> None:
    now, T = truncated(shown), torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert now.answers is not None
    loss = tempered(logits(0), now, T)
    loss.backward()
    torch.testing.assert_close(loss.detach(), kd(logits(0), now.answers.log_probs(3.0).exp(), 3.0))
    slope = [float(kd(logits(0), now.answers.log_probs(t).exp(), t)) for t in (3 - 1e-4, 3 + 1e-4)]
    assert T.grad is not None
    assert float(T.grad) == pytest.approx((slope[1] - slope[0]) / 2e-4, rel=1e-4)


def test_ctkd_with_a_temperature_that_stands_still_is_kd() -> None:
    T = 1 + 6 * float(torch.sigmoid(torch.ones(())))
    still, plain = (a.attempt(tiny_lab(FULL, 0)) for a in (CTKD(lr=0.0, span=6.0), SoftKD(temperature=T)))
    x = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(still.network(x), plain.network(x), rtol=1e-3, atol=1e-4)
    assert not same(CTKD(lr=0.0), CTKD(lr=5.0))


def mlkd_by_loops(z: np.ndarray, t: np.ndarray, masked: bool) -> float:
    """Return the three levels of the weak half and the first level of the strong half, over all temperatures."""
    half, total = len(z) // 2, 0.0
    sure = np.stack([softmax(row) for row in t[:half]])
    images, classes = sure.max(1), sure.sum(0)
    for T in TEMPERATURES:
        p, q = (np.stack([softmax(row, T) for row in x]) for x in (t, z))
        kl = T * T * (p * np.log(p / q)).sum(1)
        total += kl[half:].mean()
        p, q = p[:half], q[:half]
        for i in range(half):
            if not masked or images[i] <= np.median(images):
                gram = sum((p[i] @ p[j] - q[i] @ q[j]) ** 2 for j in range(half))
                total += (kl[i] + gram) / half
        for a in range(K):
            if not masked or classes[a] <= np.median(classes):
                total += sum((p[:, a] @ p[:, b] - q[:, a] @ q[:, b]) ** 2 for b in range(K)) / K
    return total


@pytest.mark.parametrize("masked", [True, False])
def test_mlkd_by_loops_over_images_and_classes(masked: bool) -> None:
    z, now = logits(0), batch()
    attack = MLKD(weight=0.4, supervised=0.5, masked=masked)
    y = torch.cat([now.labels[: B // 2]] * 2)
    labels = 0.5 * sum(float(F.cross_entropy(half, y[: B // 2])) for half in z.split(B // 2))
    expected = labels + 0.4 / 5 * mlkd_by_loops(z.numpy(), logits(100).numpy(), masked)
    assert float(attack.loss(Outputs(z), replace(now, labels=y), 0)) == pytest.approx(expected, rel=1e-6)


def answering_best(lab: Lab, best: str, kinds: list[str]) -> None:
    """Let the answers about one kind of view repeat the labels, and others point elsewhere; note what is asked."""

    def answers(kind: str, *, only: np.ndarray | None = None, views: int | None = None) -> Answers:
        index = np.arange(len(lab.pool)) if only is None else only
        count = lab.view_set(kind, views).count
        lab.oracle.charge(count * len(index))
        kinds.append(kind)
        assert lab.pool.labels is not None
        y = torch.from_numpy(lab.pool.labels[index]).repeat(count)
        off = 0 if kind == best else 1
        marks = 1e-3 * torch.arange(len(y))[:, None] * torch.tensor([0.0, 0.0, 1.0])  # tells rows apart
        return Answers("probs", F.log_softmax(3.0 * F.one_hot((y + off) % CLASSES, CLASSES) + marks, -1))

    lab.answers = answers  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize("best", CANDIDATES)
def test_rolewise_asks_about_the_view_that_the_teacher_answers_best(best: str) -> None:
    lab, kinds = tiny_lab(FULL, 0), []
    answering_best(lab, best, kinds)
    student = RoleWise(trial=10, student="strong").attempt(lab)
    assert kinds == [*CANDIDATES, best]
    assert lab.oracle.charged == 3 * 10 + 60 * (1 if best == "raw" else 2)
    assert student.report.view == "strong"


@pytest.mark.parametrize("student", ["strong", "crop+strong"])
@pytest.mark.parametrize("best", ["raw", "crop"])
def test_rolewise_teaches_an_image_with_an_answer_about_it(best: str, student: str) -> None:
    lab, seen = tiny_lab(FULL, 0), []
    answering_best(lab, best, [])

    class Watched(RoleWise):
        def loss(self, outputs: Outputs, batch: Batch, step: int) -> torch.Tensor:
            seen.append(batch)
            return super().loss(outputs, batch, step)

    Watched(student=student).attempt(lab)
    told = lab.answers(best).values
    for now in seen:
        row = now.index if best == "raw" else now.view * 60 + now.index
        torch.testing.assert_close(now.answers.values, told[row])


@pytest.mark.parametrize("budget", [60, 61, 100, 200, 250])
def test_rolewise_keeps_a_query_for_every_image(budget: int) -> None:
    lab = tiny_lab(FULL, 0, budget=budget)
    RoleWise().attempt(lab)
    assert 60 <= lab.oracle.charged <= budget


def test_rolewise_chooses_without_labels_by_the_teachers_own_confidence() -> None:
    lab = tiny_lab(FULL, 0)
    lab.pool = replace(lab.pool, labels=np.full(60, UNLABELLED))
    losses = []
    for kind in CANDIDATES:
        answers = tiny_lab(FULL, 0).answers(kind, views=1)
        losses.append(-float(answers.values.amax(-1).mean()))
    assert RoleWise().choose(lab) == CANDIDATES[int(np.argmin(losses))]


@pytest.mark.parametrize("attack", [FunctionMatching(temperature=3.0), *FunctionMatching.presets().values()])
def test_function_matching_is_kd_without_labels(attack: FunctionMatching) -> None:
    z, now, T = logits(0), batch(), attack.temperature
    expected = kd(z, F.softmax(logits(100) / T, -1), T)
    torch.testing.assert_close(attack.loss(Outputs(z), now, 0), expected)
    blind = replace(now, labels=torch.full((B,), UNLABELLED))
    torch.testing.assert_close(attack.loss(Outputs(z), blind, 0), expected)


@pytest.mark.parametrize(("budget", "views"), [(2_000, 16), (500, 8), (61, 1)])
def test_function_matching_is_patient_and_asks_what_the_budget_pays(budget: int, views: int) -> None:
    lab = tiny_lab(FULL, 0, budget=budget)
    report = FunctionMatching(patience=1.5).attempt(lab).report
    assert lab.oracle.charged == views * 60
    assert (report.recipe.steps, report.recipe.views, report.view) == (9, 16, "mixup")


@pytest.mark.parametrize("attack", [NKD(), DIST(), CTKD(), MSE(), TTM(), CKD()], ids=lambda a: a.name)
def test_the_ledger_is_one_query_a_stored_view(attack: Attack) -> None:
    lab = tiny_lab(FULL, 0, budget=120)
    report = attack.attempt(lab).report
    assert lab.oracle.charged == 120
    assert report.recipe == lab.recipe
    assert report.view == "crop"


def test_mlkd_asks_about_both_views() -> None:
    lab = tiny_lab(FULL, 0, budget=240)
    assert MLKD().attempt(lab).report.view == "crop+strong"
    assert lab.oracle.charged == 240


OPTIONS = [
    (NKD(), {"gamma": 3.0, "temperature": 2.0}),
    (DIST(), {"beta": 2.0, "gamma": 2.0, "temperature": 2.0}),
    (MLKD(), {"weight": 0.5, "supervised": 1.0, "masked": False}),
    (CTKD(rise=0.2), {"weight": 0.5, "start": 2.0, "span": 5.0, "rise": 1.0, "lr": 1.0}),
    (MSE(), {"weight": 0.5}),
    (TTM(), {"gamma": 0.5, "beta": 4.0, "weighted": True}),
    (CKD(), {"weight": 3.0}),
    (RoleWise(), {"temperature": 2.0, "weight": 0.5, "student": "strong"}),
    (FunctionMatching(), {"temperature": 1.0, "kind": "strong-mixup", "looks": 2, "patience": 1.0}),
]


@pytest.mark.parametrize(
    ("attack", "option", "value"),
    [(a, o, v) for a, changed in OPTIONS for o, v in changed.items()],
    ids=lambda x: getattr(x, "name", str(x)),
)
def test_every_option_changes_the_student(attack: Attack, option: str, value: float) -> None:
    assert not same(attack, replace(attack, **{option: value}))
