"""Which answers a budget pays for, and how the attacker answers the rest."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from attacks.adaptive import adaptive
from attacks.adaptive.adaptive import Adaptive
from attacks.adaptive.chain import Decodings
from attacks.base import Attack, Lab
from attacks.contract import CLASSES, SHAPE, tiny_lab
from attacks.logits.soft_kd import SoftKD
from attacks.own_answers import pay
from attacks.registry import OURS
from attacks.resistant.avg import AVG
from attacks.resistant.inversion import Inversion
from teachers.errors import BudgetExceeded
from teachers.oracle import Box, Oracle
from teachers.surface import FULL, Surface
from teachers.synthetic import LabelMemory, SmoothedTruth
from teachers.targets.questions import dealt, declared
from teachers.task import UNLABELLED
from teachers.training import Batch
from teachers.views import ViewSet

N, V = 60, 2  # images and stored views of the tiny task
BUDGETS = [0, 1, 7, 30, 59, 60, 61, 119, 120, 121, None]


def first(budget: int) -> list[int]:
    """Return the images that are asked about."""
    rank = np.random.default_rng(0).permutation(N)
    return sorted(sorted(range(N), key=lambda image: int(rank[image]))[:budget])


def truths(lab: Lab) -> Tensor:
    """Return what a teacher that knows smoothed labels alone answers about every image, (N, K)."""
    truth = Box(SmoothedTruth(LabelMemory(lab.pool, V), CLASSES))
    return truth(torch.from_numpy(lab.pool.images).float() / 255).values


def with_labels(lab: Lab, known: Sequence[int]) -> Lab:
    labels = np.full(N, UNLABELLED)
    labels[known] = lab.pool.every_label[known]
    lab.pool = replace(lab.pool, labels=labels)
    return lab


def weights(attack: Attack, lab: Lab) -> Tensor:
    return torch.cat([p.flatten() for p in attack.attempt(lab).network.parameters()])


@pytest.mark.parametrize("budget", BUDGETS)
def test_what_is_not_asked_has_another_views_answer_or_the_labels(budget: int | None) -> None:
    lab, whole = tiny_lab(FULL, 0, budget), tiny_lab(FULL, 0, None).answers("crop").values
    found, truth = lab.answers("crop").values, truths(lab)
    asked = V * N if budget is None else budget
    images, views = first(asked), max(1, min(V, asked // N))
    for v in range(V):
        for i in range(N):
            expected = whole[v % views * N + i] if i in images else truth[i]
            assert torch.equal(found[v * N + i], expected)
    assert lab.oracle.charged == views * len(images) <= asked


def test_smaller_budgets_ask_for_a_part_of_what_larger_ones_do() -> None:
    pool = tiny_lab(FULL, 0).pool
    sets, only = [ViewSet("crop", V), ViewSet("strong", V)], np.arange(5, 45)
    asked = []
    for budget in range(1, 4 * len(only) + 1):
        paid = pay(pool, sets, only, budget, "probs", CLASSES)
        assert budget - len(only) < paid.queries <= budget
        views = [(one.kind, v) for one in paid.asked for v in range(one.count)]
        asked.append({(i, *view) for i in paid.images.tolist() for view in views})
    assert all(less <= more for less, more in pairwise(asked))
    assert {i for i, *_ in asked[0]} < set(only.tolist())


@pytest.mark.parametrize("attack", [SoftKD(), AVG(), Inversion()], ids=lambda a: a.name)
def test_a_budget_that_suffices_changes_nothing(attack: Attack) -> None:
    assert torch.equal(weights(attack, tiny_lab(FULL, 1, None)), weights(attack, tiny_lab(FULL, 1, V * N)))


ALONE = [a for a in OURS if a.views == "crop" and a.needs == "probs" and a.name not in ("adaptive", "backward-kd-zo")]


@pytest.mark.parametrize("attack", ALONE, ids=lambda a: a.name)
def test_without_a_query_an_attack_is_its_own_loss_on_labels(attack: type[Attack]) -> None:
    lab = tiny_lab(FULL, 0)
    truth = Box(SmoothedTruth(LabelMemory(lab.pool, V), CLASSES))
    lab._oracle = Oracle(truth, surface=FULL, shape=SHAPE)
    torch.testing.assert_close(weights(attack(), lab), weights(attack(), tiny_lab(FULL, 0, 0)), rtol=1e-4, atol=1e-6)


def test_label_surfaces_have_labels_and_cut_ones_whole_own_answers() -> None:
    images, others = first(30), np.setdiff1d(np.arange(N), first(30))
    lab, whole = tiny_lab(Surface("label"), 0, 30), tiny_lab(Surface("label"), 0).answers("crop")
    found = lab.answers("crop")
    assert found.kind == "label"
    assert torch.equal(found.values[images], whole.values[images])
    assert found.values[N:][others].tolist() == lab.pool.every_label[others].tolist()
    cut = tiny_lab(Surface("top:2+round:1"), 0, 30).answers("crop").values
    assert not cut[images].isfinite().all()
    assert torch.equal(cut[others], truths(lab)[others])


def test_an_explanation_is_of_its_own_pixels_and_others_are_zero() -> None:
    explained = Surface("gradients")
    whole, found = (tiny_lab(explained, 0, budget).answers("crop").gradients for budget in (None, 30))
    assert whole is not None
    assert found is not None
    images = first(30)
    assert torch.equal(found[images], whole[images])
    assert float(found.abs().sum()) == float(whole[images].abs().sum())
    none = tiny_lab(explained, 0, 0).answers("crop").gradients
    assert none is not None
    assert none.shape == whole.shape


@pytest.mark.parametrize("budget", [0, 30, 60, 110])
def test_a_mix_that_is_not_asked_about_is_answered_with_both_labels(budget: int) -> None:
    lab, whole = tiny_lab(FULL, 0, budget), tiny_lab(FULL, 0).answers("mixup").values
    found, draws, y = lab.answers("mixup").values, ViewSet("mixup", V).draw(lab.pool), torch.from_numpy(lab.pool.labels)
    for v in range(V):
        mixed = Batch(torch.zeros(N), y, partner=y[draws.partner[v]], weight=draws.weight[v]).truth(CLASSES, 0.1)
        for i in range(N):
            if v == 0 and i in first(budget):
                assert torch.equal(found[i], whole[i])
            else:
                torch.testing.assert_close(found[v * N + i].exp(), mixed[i])
    label = tiny_lab(Surface("label"), 0, 0).answers("mixup").values
    assert label.tolist() == 2 * y.tolist(), "the image itself is the larger part of its mix"


def test_a_mix_of_unknown_labels_has_another_mixs_answer() -> None:
    known = list(range(0, N, 2))
    found, whole = with_labels(tiny_lab(FULL, 0, N), known).answers("mixup").values, tiny_lab(FULL, 0).answers("mixup")
    partner = ViewSet("mixup", V).draw(tiny_lab(FULL, 0).pool).partner[1]
    repeats = [torch.equal(found[N + i], whole.values[i]) for i in range(N)]
    assert repeats == [not {i, int(partner[i])} <= set(known) for i in range(N)]


@pytest.mark.parametrize(
    ("budget", "sources"),  # of crop 0, crop 1, strong 0 and strong 1, as numbers of those four
    [(30, "0000"), (60, "0000"), (120, "0022"), (180, "0122"), (239, "0122"), (240, "0123")],
)
def test_views_are_dealt_out_to_kinds_in_turn(budget: int, sources: str) -> None:
    lab, whole = tiny_lab(FULL, 0, budget), tiny_lab(FULL, 0).answers("crop+strong").values.view(4, N, CLASSES)
    found, images = lab.answers("crop+strong").values.view(4, N, CLASSES), first(budget)
    for row, source in zip(found, map(int, sources), strict=True):
        assert torch.equal(row[images], whole[source][images])
    assert lab.oracle.charged == len(set(sources)) * len(images)


@pytest.mark.parametrize(("budget", "charged"), [(59, None), (60, 60), (100, 60)])
def test_without_labels_every_image_must_be_asked_about(budget: int, charged: int | None) -> None:
    lab = with_labels(tiny_lab(FULL, 0, budget), range(59))
    if charged is None:
        with pytest.raises(BudgetExceeded, match="120 more queries"):
            lab.answers("crop")
    else:
        lab.answers("crop")
    assert lab.oracle.charged == (charged or 0)
    with pytest.raises(BudgetExceeded):
        lab.answers("raw", pool=lab.surrogate, only=np.arange(0, 80))


@pytest.mark.parametrize("attack", [a for a in OURS if a.holds == "original"], ids=lambda a: a.name)
@pytest.mark.parametrize("budget", [1, 45, 100])
def test_every_attack_on_original_images_keeps_a_budget(attack: type[Attack], budget: int) -> None:
    lab = tiny_lab(Surface("gradients") if attack.needs == "gradients" else Surface("top:2"), 0, budget)
    assert torch.isfinite(weights(attack(), lab)).all()
    assert 0 < lab.oracle.charged <= budget


def test_only_the_teachers_answers_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    lab, whole = tiny_lab(FULL, 0, 30), tiny_lab(FULL, 0).answers("crop").values
    seen: list[Tensor] = []

    class Spy(Decodings):
        def decode(
            self, log_probs: Tensor, labels: Tensor, reference: Tensor | None, **options: bool
        ) -> adaptive.Decoding:
            seen.append(log_probs)
            assert labels.tolist() == lab.pool.every_label[first(30)].tolist()
            return adaptive.Decoding(torch.zeros(30, CLASSES).log_softmax(-1), "all alike")

    monkeypatch.setattr(adaptive, "DECODED", Spy())
    meaning = adaptive._read(lab, rescaled=True)
    assert meaning.told == "all alike"
    torch.testing.assert_close(*seen, whole[first(30)])
    read, others = meaning.answers[torch.arange(V * N)].values, np.setdiff1d(np.arange(N), first(30))
    assert torch.equal(read[N:][others], truths(lab)[others])
    torch.testing.assert_close(read[N:][first(30)].exp(), torch.full((30, CLASSES), 1 / CLASSES))
    assert torch.isfinite(weights(Adaptive(), tiny_lab(FULL, 0, 0))).all(), "there is nothing to decode"


def test_only_the_teachers_answers_are_inverted(monkeypatch: pytest.MonkeyPatch) -> None:
    lab, whole, kept = tiny_lab(Surface("temperature:4"), 0, 30), tiny_lab(FULL, 0).answers("crop").values, []
    plain = lab.stream

    def stream(kind: str, answers: object, **more: object) -> object:
        kept.append(answers[torch.arange(V * N)].values)
        return plain(kind, answers, **more)

    monkeypatch.setattr(lab, "stream", stream)
    Inversion().attempt(lab)
    others = np.setdiff1d(np.arange(N), first(30))
    torch.testing.assert_close(kept[0][first(30)], whole[first(30)], rtol=1e-4, atol=1e-4)
    assert torch.equal(kept[0][others], truths(lab)[others])


def test_an_averager_averages_the_teachers_answers_and_of_other_classes_the_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab, attack = tiny_lab(FULL, 0, 1), AVG(temperature=1.0)
    taken: list[Tensor] = []
    monkeypatch.setattr(AVG, "loss", lambda self, outputs, batch, means: taken.append(means) or outputs.logits.sum())
    attack.attempt(lab)
    (image,), whole = first(1), tiny_lab(FULL, 0).answers("crop").values
    for y in range(CLASSES):
        mine = y == lab.pool.every_label[image]
        own = torch.full((CLASSES,), 0.1 / CLASSES) + 0.9 * (torch.arange(CLASSES) == y)
        torch.testing.assert_close(taken[0][y], whole[image].exp() if mine else own)


def test_views_that_attacks_declare_are_asked_ahead_as_far_as_students_use_them() -> None:
    assert dealt((8, 8), 5) == (3, 2)
    assert dealt((1, 8), 5) == (1, 4)
    assert dealt((2, 2), 9) == (2, 2)
    assert dealt((4,), 0) == (0,)
    kinds = ["crop", "crop+strong", "mixup"]
    assert declared(kinds, 8, 100, None) == {"crop": 8, "strong": 8, "mixup": 8}
    assert declared(kinds, 8, 100, 350) == {"crop": 3, "strong": 1, "mixup": 3}
    assert declared(kinds, 8, 100, 100) == {"crop": 1, "mixup": 1}
    assert declared(kinds, 8, 100, 99) == {}
