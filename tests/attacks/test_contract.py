"""Every attack's formula against an independent reference, and every attack against the public contract."""

import gc
import math
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attacks import registry
from attacks.base import Attack, draw
from attacks.contract import CLASSES, SHAPE, check_attack, check_declaration, tiny_lab
from attacks.controls.ls import LS
from attacks.data_free.noise import Noise
from attacks.labels.label_kd import LabelKD
from attacks.labels.label_mixup import LabelMixup
from attacks.logits.dkd import DKD
from attacks.logits.lskd import LSKD
from attacks.logits.soft_kd import SoftKD
from attacks.losses import cross_entropy, kd, standardise
from attacks.resistant.avg import AVG, class_means
from attacks.surrogate.knockoff import Knockoff, imitate
from teachers.errors import BudgetExceeded
from teachers.surface import FULL, Answers, Surface
from teachers.task import UNLABELLED, Pool
from teachers.training import Batch, Outputs

B, K = 7, 5


def logits(seed: int) -> torch.Tensor:
    return torch.randn(B, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def batch(seed: int = 0, labels: list[int] | None = None) -> Batch:
    y = torch.tensor([0, 1, 2, 3, 4, 0, 1] if labels is None else labels)
    return Batch(torch.zeros(B, 1, 2, 2), y, Answers("probs", F.log_softmax(logits(seed + 100), -1)))


@pytest.mark.parametrize("attack", registry.attacks().values(), ids=lambda a: a.name)
def test_every_attack_keeps_the_contract(attack: type[Attack]) -> None:
    check_attack(attack)


def test_the_contract_catches_an_attack_without_a_paper() -> None:
    class Nameless(SoftKD):
        paper = ""

    with pytest.raises(AssertionError, match="paper"):
        check_declaration(Nameless)


def test_gradient_of_kd_is_its_closed_form() -> None:
    """Summed over classes and averaged over the batch: dividing by the number of classes would be K times too weak."""
    z, T = logits(0).requires_grad_(), 4.0
    target = F.softmax(logits(1) / T, -1)
    kd(z, target, T).backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, T * (F.softmax(z.detach() / T, -1) - target) / B)


def test_kd_is_a_sum_over_classes_by_brute_force() -> None:
    z, t, T = logits(0), logits(1), 2.0
    p, q = F.softmax(t / T, -1), F.softmax(z / T, -1)
    total = sum(float(p[i, c] * math.log(p[i, c] / q[i, c])) for i in range(B) for c in range(K))
    assert float(kd(z, p, T)) == pytest.approx(T * T * total / B, rel=1e-9)


def test_soft_kd_mixes_label_and_teacher() -> None:
    z, now = logits(0), batch()
    attack = SoftKD(temperature=3.0, weight=0.7)
    p = F.softmax(logits(100) / 3.0, -1)
    expected = (
        0.3 * F.cross_entropy(z, now.labels) + 0.7 * 9 * F.kl_div(F.log_softmax(z / 3, -1), p, reduction="sum") / B
    )
    torch.testing.assert_close(attack.loss(Outputs(z), now, 0), expected, check_dtype=False)


def test_dkd_with_equal_teacher_is_zero_and_parts_agree_with_masked_reference() -> None:
    z, now, T = logits(0), batch(), 2.0
    attack = DKD(temperature=T, alpha=1.5, beta=2.5)
    same = Batch(now.x, now.labels, Answers("probs", F.log_softmax(z, -1)))
    assert float(attack.distilled(z, same)) == pytest.approx(0, abs=1e-9)
    p, q = F.softmax(logits(100) / T, -1), F.softmax(z / T, -1)
    total = 0.0
    for i, y in enumerate(now.labels.tolist()):
        pt, qt = float(p[i, y]), float(q[i, y])
        tckd = pt * math.log(pt / qt) + (1 - pt) * math.log((1 - pt) / (1 - qt))
        others = [c for c in range(K) if c != y]
        nckd = sum(
            float(p[i, c]) / (1 - pt) * math.log((float(p[i, c]) / (1 - pt)) / (float(q[i, c]) / (1 - qt)))
            for c in others
        )
        total += 1.5 * tckd + 2.5 * nckd
    assert float(attack.distilled(z, now)) == pytest.approx(T * T * total / B, rel=1e-6)


def test_dkd_recomposes_kd_where_beta_is_the_non_target_mass() -> None:
    """KD = TCKD + (1 − p_t) NCKD (Zhao et al., equation 6), for one image."""
    z, T = logits(0)[:1], 1.0
    now = Batch(torch.zeros(1, 1, 2, 2), torch.tensor([2]), Answers("probs", F.log_softmax(logits(100)[:1], -1)))
    p = F.softmax(logits(100)[:1], -1)
    beta = 1 - float(p[0, 2])
    assert float(DKD(temperature=T, beta=beta).distilled(z, now)) == pytest.approx(float(kd(z, p, T)), rel=1e-6)


def test_lskd_ignores_scale_and_shift_of_the_teachers_logits() -> None:
    z, now = logits(0), batch()
    scaled = Batch(now.x, now.labels, Answers("probs", F.log_softmax(0.2 * logits(100), -1)))
    torch.testing.assert_close(
        LSKD().loss(Outputs(z), now, 0), LSKD().loss(Outputs(z), scaled, 0), rtol=1e-5, atol=1e-6
    )
    assert not torch.isclose(SoftKD().loss(Outputs(z), now, 0), SoftKD().loss(Outputs(z), scaled, 0), rtol=1e-3)


def test_lskd_ignores_the_students_scale_but_for_the_label_part() -> None:
    now, attack = batch(), LSKD(supervised=0.0)
    torch.testing.assert_close(
        attack.loss(Outputs(logits(0)), now, 0), attack.loss(Outputs(3 * logits(0)), now, 0), rtol=1e-5, atol=1e-6
    )


def test_soft_kd_learns_from_the_teacher_and_not_from_the_label_alone() -> None:
    z, now, T = logits(0).requires_grad_(), batch(), 4.0
    SoftKD(temperature=T, weight=1.0).loss(Outputs(z), now, 0).backward()
    assert z.grad is not None
    expected = T * (F.softmax(z.detach() / T, -1) - F.softmax(logits(100) / T, -1)) / B
    torch.testing.assert_close(z.grad, expected)


def test_standardised_logits_have_mean_zero_and_unit_deviation() -> None:
    z = standardise(logits(3))
    torch.testing.assert_close(z.mean(-1), torch.zeros(B, dtype=z.dtype), atol=1e-9, rtol=0)
    torch.testing.assert_close(z.std(-1), torch.ones(B, dtype=z.dtype), atol=1e-6, rtol=0)


def test_averager_targets_are_class_means() -> None:
    answers = Answers("probs", F.log_softmax(logits(1), -1))
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    means = class_means(answers, labels, 2.0)
    p = F.softmax(logits(1) / 2, -1)
    torch.testing.assert_close(means[1], p[2:5].mean(0), check_dtype=False)
    torch.testing.assert_close(means[4], torch.full((K,), 1 / K), check_dtype=False)


def test_averager_equals_kd_when_a_class_has_one_answer() -> None:
    """Where CMI is zero the averager loses nothing."""
    lab = tiny_lab(FULL, seed=3)
    labels = torch.from_numpy(lab.pool.labels)
    rows = F.log_softmax(torch.eye(CLASSES) * 2, -1)[labels].repeat(2, 1)
    lab.answers = lambda *a, **k: Answers("probs", rows)  # type: ignore[method-assign]
    averaged, again = AVG().attempt(lab), SoftKD().attempt(lab)
    x = torch.rand(4, *SHAPE)
    torch.testing.assert_close(averaged.network(x), again.network(x), rtol=1e-4, atol=1e-5)


def test_a_lab_is_gone_with_its_student() -> None:
    """What waits for the garbage collector keeps memory of the device, and is there for the next attack to find."""
    SoftKD().attempt(tiny_lab(FULL, seed=1))  # what the first student imports may hold on to its frames
    gc.disable()
    try:
        for technique in (SoftKD(), LS(), replace(Knockoff(), queries=48)):
            lab = tiny_lab(FULL, seed=1)
            network = weakref.ref(technique.attempt(lab).network)
            del lab
            assert network() is None, technique.name
    finally:
        gc.enable()


def test_label_attacks_use_nothing_but_the_top_class() -> None:
    z, now = logits(0), batch()
    told = now.answers.labels
    hard = Batch(now.x, now.labels, Answers("label", told))
    for loss in (LabelKD(smoothing=0.2).loss, LabelMixup().loss):
        torch.testing.assert_close(loss(Outputs(z), now, 0), loss(Outputs(z), hard, 0))
    expected = F.cross_entropy(z, told, label_smoothing=0.2)
    torch.testing.assert_close(LabelKD(smoothing=0.2).loss(Outputs(z), now, 0), expected)


def test_mixed_truth_weighs_both_labels() -> None:
    now = Batch(
        torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), partner=torch.tensor([2, 1]), weight=torch.tensor([0.75, 0.6])
    )
    expected = torch.tensor([[0.75, 0, 0.25], [0, 1, 0]])
    torch.testing.assert_close(now.truth(3), expected)


def test_ls_smooths_as_torch_does_and_leaves_unlabelled_images_out() -> None:
    z, now = logits(0), batch()
    expected = F.cross_entropy(z, now.labels, label_smoothing=0.3)
    torch.testing.assert_close(LS(smoothing=0.3).loss(Outputs(z), now, 0), expected, check_dtype=False)
    some = batch(labels=[0, UNLABELLED, 2, UNLABELLED, 4, 0, 1])
    known = some.labels != UNLABELLED
    expected = F.cross_entropy(z[known], some.labels[known], label_smoothing=0.3)
    torch.testing.assert_close(LS(smoothing=0.3).loss(Outputs(z), some, 0), expected, check_dtype=False)


def test_knockoff_imitates_probabilities_or_one_hot_labels() -> None:
    z, now = logits(0), batch()
    expected = -(F.softmax(logits(100), -1) * F.log_softmax(z, -1)).sum(-1).mean()
    torch.testing.assert_close(imitate(Outputs(z), now, 0), expected, check_dtype=False)
    hard = Batch(now.x, now.labels, Answers("label", now.answers.labels))
    torch.testing.assert_close(imitate(Outputs(z), hard, 0), F.cross_entropy(z, now.answers.labels), check_dtype=False)


def test_cross_entropy_averages_over_rows_that_have_a_target() -> None:
    target = F.one_hot(torch.tensor([0, 1, 2, 3, 4, 0, 1]), K).double()
    target[3:] = 0
    expected = F.cross_entropy(logits(0)[:3], torch.tensor([0, 1, 2]))
    torch.testing.assert_close(cross_entropy(logits(0), target), expected)


def test_a_draw_repeats_nothing_and_depends_on_its_seed() -> None:
    pool = Pool(np.zeros((50, 1, 2, 2), np.uint8))
    first, other = draw(pool, 20, 0), draw(pool, 20, 1)
    assert len(set(first.tolist())) == 20
    assert first.tolist() != other.tolist()
    assert draw(pool, 99, 0).tolist() == list(range(50))


@pytest.mark.parametrize("attack", [Knockoff(queries=48), Noise(queries=48)])
def test_query_attacks_ask_once_and_stay_within_a_smaller_budget(attack: Attack) -> None:
    lab = tiny_lab(FULL, 0)
    attack.attempt(lab)
    assert lab.oracle.charged == 48
    tight = tiny_lab(FULL, 0, budget=30)
    attack.attempt(tight)
    assert tight.oracle.charged == 30


def test_an_attack_past_its_budget_is_stopped_before_it_asks() -> None:
    lab = tiny_lab(Surface("probs"), 0, budget=100)
    with pytest.raises(BudgetExceeded, match="120 more queries"):
        SoftKD().attempt(lab)
    assert lab.oracle.charged == 0


def test_a_control_is_handed_no_oracle() -> None:
    lab = tiny_lab(FULL, 0)
    lab._oracle = None
    LS().attempt(lab)
    with pytest.raises(PermissionError, match="may not query a teacher"):
        SoftKD().attempt(lab)


def test_an_attack_must_return_the_student_it_trained_last() -> None:
    class Stale(SoftKD):
        def run(self, lab):  # type: ignore[no-untyped-def]
            first = super().run(lab)
            super().run(lab)
            return first

    with pytest.raises(TypeError, match=r"last call of lab\.fit"):
        Stale().attempt(tiny_lab(FULL, 0))
