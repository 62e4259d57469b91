"""Decoders: what was done to answers is undone, and honest answers stay as they are."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from answer_worlds import VIEWS, K, World, tail, world
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from attacks.adaptive.decoders import (
    Decoding,
    change,
    change_point,
    class_scale,
    floor,
    likeliest,
    match,
    matrix,
    mixture,
    offset,
    ranks,
    scale,
    sign,
    trust,
)
from attacks.adaptive.decoders.change import _deviations, _statistics
from attacks.adaptive.decoders.decoding import halves, rows
from attacks.adaptive.decoders.match import _likeliest
from attacks.adaptive.decoders.matrix import fitted
from attacks.adaptive.decoders.ranks import LEAD
from attacks.adaptive.decoders.sign import _turned
from teachers.task import UNLABELLED


def with_tail(w: World, z: Tensor, which: Tensor | None = None) -> Tensor:
    """Return answers with other non-target logits in some rows; the top class stays on top."""
    lead = torch.where(tail(w), z, -torch.inf).amax(1, keepdim=True) + 0.1
    z = torch.where(tail(w), z, torch.maximum(w.answers, lead))
    return z.log_softmax(1) if which is None else torch.where(which[:, None], z.log_softmax(1), w.answers)


def reversed_(w: World, which: Tensor | None = None) -> Tensor:
    mean = torch.where(tail(w), w.answers, 0.0).sum(1, keepdim=True) / (w.answers.shape[1] - 1)
    return with_tail(w, 2 * mean - w.answers, which)


def keyed(w: World, share: float = 0.5, seed: int = 1) -> Tensor:
    """Return a hidden part of the rows, (V·N,)."""
    return torch.rand(len(w.answers), generator=torch.Generator().manual_seed(seed)) < share


def permutations(w: World, seed: int = 2) -> Tensor:
    """Return a permutation of the other classes for each top class, (K, K)."""
    g, k = torch.Generator().manual_seed(seed), w.answers.shape[1]
    table = torch.arange(k).repeat(k, 1)
    for t in range(k):
        others = torch.tensor([j for j in range(k) if j != t])
        table[t, others] = others[torch.randperm(k - 1, generator=g)]
    return table


def agreement(found: Tensor, true: Tensor, w: World) -> float:
    """Return the mean cosine of the centred non-target logits of two sets of answers."""
    a, b = (torch.where(tail(w), x, torch.nan) for x in (found, true))
    a, b = ((x - x.nanmean(1, keepdim=True)).nan_to_num(0.0) for x in (a, b))
    return float(F.cosine_similarity(a, b).mean())


REFERENCED = (sign, match, offset)
LABELLED = (scale, class_scale, mixture, floor, ranks, matrix)
ALL = {
    **{f.__name__: lambda w, f=f: f(w.answers, w.labels, w.reference) for f in REFERENCED},
    **{f.__name__: lambda w, f=f: f(w.answers, w.labels) for f in LABELLED},
}
Decoder = Callable[[World], Decoding]


# Honest answers


@pytest.mark.parametrize("name", ["sign", "match", "offset", "mixture", "floor"])
@pytest.mark.parametrize("seed", range(5))
def test_an_ordinary_teachers_answers_stay_as_they_are(name: str, seed: int) -> None:
    w = world(seed=seed)
    decoded = ALL[name](w)
    assert not decoded.told
    assert torch.equal(decoded.log_probs, w.answers)


@pytest.mark.parametrize(("k", "each"), [(3, 40), (4, 10), (4, 150), (5, 40), (10, 4), (10, 40), (60, 4)])
def test_few_classes_and_few_images_are_no_finding(k: int, each: int) -> None:
    w = world(k, each)
    assert not [name for name in ("sign", "match", "offset", "mixture", "floor") if ALL[name](w).told]
    assert change_point(w.answers, w.labels, w.reference) == len(w.answers)


@pytest.mark.parametrize("name", ["sign", "match", "offset"])
@pytest.mark.parametrize("noise", [3.0, 10.0, 100.0])
def test_a_poor_reference_changes_no_honest_answers(name: str, noise: float) -> None:
    w = world()
    other = torch.randn(w.reference.shape, generator=torch.Generator().manual_seed(3))
    assert not ALL[name](w._replace(reference=(w.reference + noise * other).log_softmax(1))).told


@pytest.mark.parametrize("seed", range(3))
def test_nothing_changes_in_honest_answers(seed: int) -> None:
    w = world(seed=seed)
    assert change_point(w.answers, w.labels) == change_point(w.answers, w.labels, w.reference) == len(w.answers)


def test_a_calibrated_teacher_has_no_scale() -> None:
    w = world()
    c = likeliest(w.answers, w.labels)
    calibrated = (c * w.answers).log_softmax(1)
    assert scale(calibrated, w.labels).told == ""
    assert torch.equal(scale(calibrated, w.labels).log_probs, calibrated)


# What decoders cannot use


@pytest.mark.parametrize("name", ALL)
def test_one_hot_answers_stay_as_they_are(name: str) -> None:
    w = world()
    one_hot = torch.where(tail(w), -torch.inf, 0.0)
    decoded = ALL[name](w._replace(answers=one_hot))
    assert not decoded.told
    assert torch.equal(decoded.log_probs, one_hot)
    assert not trust(one_hot, w.labels, w.reference).any()


@pytest.mark.parametrize("name", ALL)
def test_hidden_classes_stay_hidden(name: str) -> None:
    w = world()
    least = w.answers.topk(5).values[:, -1:]
    hidden = torch.where(reversed_(w) < least, -torch.inf, reversed_(w))
    decoded = ALL[name](w._replace(answers=hidden)).log_probs
    assert torch.equal(decoded.isinf(), hidden.isinf())
    assert not decoded.isnan().any()


@pytest.mark.parametrize("name", ALL)
def test_two_classes_and_missing_classes_are_answered(name: str) -> None:
    w = world()
    two = World(w.answers[:, :2].log_softmax(1), w.reference[:, :2].log_softmax(1), w.labels % 2)
    few = w.labels < 3
    part = World(w.answers[few.repeat(VIEWS)], w.reference[few.repeat(VIEWS)], w.labels[few])
    one = World(w.answers[:1], w.reference[:1], w.labels[:1])
    for small in (two, part, one):
        decoded = ALL[name](small)
        assert decoded.log_probs.shape == small.answers.shape
        assert decoded.log_probs.isfinite().all()
        weights = trust(small.answers, small.labels, small.reference)
        assert ((weights >= 0) & (weights <= 1)).all()
        assert 1 <= change_point(small.answers, small.labels) <= len(small.answers)


@pytest.mark.parametrize("name", ["scale", "class_scale", "matrix"])
def test_without_labels_nothing_is_fitted(name: str) -> None:
    w = world()
    decoded = ALL[name](w._replace(labels=torch.full_like(w.labels, UNLABELLED)))
    assert not decoded.told
    assert torch.equal(decoded.log_probs, w.answers)


def test_sign_and_match_need_no_labels() -> None:
    w = world()
    w = w._replace(labels=torch.full_like(w.labels, UNLABELLED))
    assert agreement(sign(reversed_(w), w.labels, w.reference).log_probs, w.answers, w) > 0.99
    permuted = w.answers.gather(1, permutations(w)[w.tops])
    assert agreement(match(permuted, w.labels, w.reference).log_probs, w.answers, w) > 0.9


def test_a_reference_or_labels_that_do_not_fit_are_refused() -> None:
    w = world()
    with pytest.raises(ValueError, match="whole number of views"):
        scale(w.answers[:-1], w.labels)
    with pytest.raises(ValueError, match="does not fit"):
        sign(w.answers, w.labels, w.reference[:7])


def test_a_reference_of_one_row_an_image_serves_all_views() -> None:
    w = world()
    once = w.reference[: len(w.labels)]
    assert torch.equal(
        sign(reversed_(w), w.labels, once).log_probs,
        sign(reversed_(w), w.labels.repeat(VIEWS), once.repeat(VIEWS, 1)).log_probs,
    )


# Scale


@pytest.mark.parametrize("temperature", [0.5, 3.0, 7.7])
def test_the_likeliest_scale_is_that_of_a_grid(temperature: float) -> None:
    """Answers of a calibrated world: labels drawn from the probabilities."""
    g = torch.Generator().manual_seed(4)
    z = 2 * torch.randn(1000, 10, generator=g)
    labels = torch.multinomial(z.softmax(1), 1, generator=g)[:, 0]
    answers = (z / temperature).log_softmax(1)
    grid = np.exp(np.linspace(np.log(1 / 32), np.log(32), 801))
    loss = [float(F.cross_entropy(c * answers, labels)) for c in grid]
    assert likeliest(answers, labels) == pytest.approx(grid[np.argmin(loss)], rel=0.01)
    assert likeliest(answers, labels) == pytest.approx(temperature, rel=0.15)
    torch.testing.assert_close(
        scale(answers, labels).log_probs, (likeliest(answers, labels) * answers).log_softmax(1), atol=1e-5, rtol=0
    )


def test_labels_that_are_unknown_do_not_count() -> None:
    w = world()
    soft = (0.2 * w.answers).log_softmax(1)
    some = torch.where(torch.arange(len(w.labels)) % 2 == 0, w.labels, UNLABELLED)
    even = torch.arange(len(soft)) % len(some) % 2 == 0
    assert likeliest(soft, some) == likeliest(soft[even], some[some != UNLABELLED])


def test_a_teacher_that_knows_every_label_is_sharpened_to_a_bound() -> None:
    w = world()
    soft = (0.1 * w.answers).log_softmax(1)
    decoded = scale(soft, w.tops)
    assert float(decoded.log_probs.exp().amax(1).mean()) == pytest.approx(0.95, abs=0.001)
    assert not scale((10 * w.answers).log_softmax(1), w.tops).told


def test_each_class_has_its_own_scale() -> None:
    w = world()
    labels = w.labels.repeat(VIEWS)
    c = torch.where(labels % 2 == 0, 0.25, 1.0)[:, None]
    decoded = class_scale((c * w.answers).log_softmax(1), w.labels)
    assert decoded.told.startswith("scale of each class")
    width = torch.where(tail(w), decoded.log_probs, torch.nan).nansum(1) - decoded.log_probs.amax(1) * (K - 1)
    even, odd = (width[labels % 2 == part].abs().mean() for part in (0, 1))
    assert 0.6 < float(even / odd) < 1.6  # 0.25 before


# Sign


def test_an_order_that_is_reversed_everywhere_is_turned_back() -> None:
    w = world()
    decoded = sign(reversed_(w), w.labels, w.reference)
    assert decoded.told == "order of the non-target classes reversed"
    assert agreement(decoded.log_probs, w.answers, w) > 0.999


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_rows_that_are_reversed_by_a_hidden_key_are_told_apart(share: float) -> None:
    w = world()
    which = keyed(w, share)
    decoded = sign(reversed_(w, which), w.labels, w.reference)
    assert "% of the answers" in decoded.told
    assert agreement(decoded.log_probs, w.answers, w) > 0.98
    still = ~which & (decoded.log_probs == w.answers).all(1)
    assert float(still.sum() / (~which).sum()) > 0.98


def test_classes_that_are_reversed_are_told_apart() -> None:
    w = world()
    decoded = sign(reversed_(w, w.tops < 5), w.labels, w.reference)
    assert decoded.told == f"order of the non-target classes reversed for 5 of {K} classes"
    assert agreement(decoded.log_probs, w.answers, w) > 0.99


def test_values_that_are_handed_out_in_reversed_order_go_back() -> None:
    w = world()
    skewed = w._replace(answers=with_tail(w, (0.2 * w.answers).exp() * 20))
    order = torch.where(tail(w), skewed.answers, torch.inf).argsort(1, descending=True)
    values = skewed.answers.gather(1, order)
    mirrored = torch.zeros_like(values).scatter(1, order, torch.cat([values[:, :1], values[:, 1:].flip(1)], 1))
    decoded = sign(mirrored, w.labels, skewed.reference).log_probs
    assert float(((decoded - skewed.answers).abs() < 1e-5).double().mean()) > 0.99


def test_a_row_that_does_not_tell_follows_the_share_of_its_class() -> None:
    """By Bayes' rule: log odds of reversal are logit(share) − 2 m s / v, with the m and v that rows were drawn from."""
    g = torch.Generator().manual_seed(12)
    tops = torch.arange(2).repeat(1000)
    turned = torch.rand(2000, generator=g) < torch.where(tops == 0, 0.97, 0.03)
    s = torch.where(turned, -0.6, 0.6).double() + 0.2 * torch.randn(2000, generator=g).double()
    unsure = torch.arange(2000) < 40
    s[unsure] = torch.where(tops[unsure] == 0, 0.05, -0.05).double()
    odds = torch.where(tops == 0, 1, -1) * float(np.log(0.97 / 0.03)) - 2 * 0.6 * s / 0.2**2
    clear = odds.abs() > 0.3
    assert bool(clear[unsure].all())
    assert torch.equal(_turned(s, tops, torch.arange(2000), 2)[clear], (odds > 0)[clear])


def test_a_permutation_is_no_reversal() -> None:
    w = world(k=30)
    assert not sign(w.answers.gather(1, permutations(w)[w.tops]), w.labels, w.reference).told


# Match


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_hidden_permutations_are_found(temperature: float) -> None:
    w = world(each=40)
    permuted = (w.answers.gather(1, permutations(w)[w.tops]) / temperature).log_softmax(1)
    decoded = match(permuted, w.labels, w.reference)
    assert decoded.told == f"non-target classes permuted for {K} of {K} classes"
    close = (decoded.log_probs * temperature).log_softmax(1) - w.answers
    assert float((close.abs() < 1e-3).double().mean()) > 0.95  # entries that are back in their place


def test_permuted_classes_alone_are_matched() -> None:
    w = world(each=40)
    which = (w.tops < 6)[:, None]
    decoded = match(torch.where(which, w.answers.gather(1, permutations(w)[w.tops]), w.answers), w.labels, w.reference)
    assert decoded.told == f"non-target classes permuted for 6 of {K} classes"
    assert torch.equal(decoded.log_probs[w.tops >= 6], w.answers[w.tops >= 6])


def test_columns_that_are_turned_over_are_turned_back() -> None:
    w = world(each=40)
    mean = torch.where(tail(w), w.answers, 0.0).sum(1, keepdim=True) / (K - 1)
    signs = torch.randint(0, 2, (K, K), generator=torch.Generator().manual_seed(5)) * 2 - 1
    flipped = with_tail(w, mean + signs[w.tops] * (w.answers - mean))
    before = agreement(flipped, w.answers, w)
    assert before < 0.3
    assert agreement(match(flipped, w.labels, w.reference).log_probs, w.answers, w) > 0.7


@pytest.mark.parametrize("k", [4, 5, 6])
@pytest.mark.parametrize("seed", range(4))
def test_the_assignment_is_the_best_of_all_permutations(k: int, seed: int) -> None:
    """By brute force: no other order correlates better over images, columns standardised (means carry nothing here)."""
    rng = np.random.default_rng(seed)
    ours = rng.standard_normal((60, k))
    theirs = (ours + 1.5 * rng.standard_normal((60, k)))[:, rng.permutation(k)]
    theirs, ours = theirs - theirs.mean(0), ours - ours.mean(0)
    order = _likeliest(theirs, ours, np.arange(60), signed=False).column

    def fit(p: tuple[int, ...]) -> float:
        return sum(float(np.corrcoef(theirs[:, j], ours[:, i])[0, 1]) for i, j in enumerate(p))

    assert tuple(order) == max(itertools.permutations(range(k)), key=fit)


# Mixture, floor, offset, ranks


@pytest.mark.parametrize(("temperature", "share"), [(4.0, 0.5), (4.0, 0.1), (3.0, 0.5)])
def test_images_that_are_softened_by_a_hidden_key_are_sharpened(temperature: float, share: float) -> None:
    w = world()
    which = keyed(w, share)[:, None]
    decoded = mixture(torch.where(which, w.answers / temperature, w.answers).log_softmax(1), w.labels)
    found = float(decoded.told.split()[-6])
    assert found == pytest.approx(temperature, rel=0.15)
    # what was softened is back, up to that factor
    close = ((decoded.log_probs - decoded.log_probs.mean(1, keepdim=True)).norm(dim=1)) / (
        w.answers - w.answers.mean(1, keepdim=True)
    ).norm(dim=1)
    assert float(((close - 1).abs() < 0.15).double().mean()) > 0.97


def test_the_two_scales_are_those_of_a_mixture_of_normals() -> None:
    from sklearn.mixture import GaussianMixture

    w = world(k=12, each=400, views=1)
    one = w._replace(answers=w.answers[w.tops == 3], labels=w.labels[w.tops == 3])
    which = keyed(one)[:, None]
    mixed = torch.where(which, one.answers / 5, one.answers).log_softmax(1)
    others = mixed[:, [j for j in range(12) if j != 3]]
    u = others.std(1, correction=0).log().numpy()[:, None]
    means = GaussianMixture(2, covariance_type="tied", random_state=0, tol=1e-8, max_iter=500).fit(u).means_[:, 0]
    told = mixture(mixed, one.labels).told
    assert float(told.split()[-6]) == pytest.approx(float(np.exp(abs(means[0] - means[1]))), rel=0.03)


def test_classes_that_are_softer_as_a_whole_are_no_mixture() -> None:
    w = world()
    assert not mixture(torch.where((w.tops < 8)[:, None], w.answers / 4, w.answers).log_softmax(1), w.labels).told


@pytest.mark.parametrize("which", ["all", "keyed", "classes"])
def test_a_uniform_part_is_taken_away(which: str) -> None:
    w = world()
    mixed = {"all": w.tops >= 0, "keyed": keyed(w), "classes": w.tops < 8}[which][:, None]
    p = w.answers.double().exp()
    shown = torch.where(mixed, 0.9 * p + 0.1 / K, p).log().float()
    decoded = floor(shown, w.labels)
    assert decoded.told.startswith("uniform part of 0.1 in")
    assert float(((decoded.log_probs.exp() - p).abs() < 1e-4).double().mean()) > 0.995
    assert agreement(decoded.log_probs, w.answers, w) > max(0.9, agreement(shown, w.answers, w) + 0.1)


def test_smoothed_labels_have_no_floor_to_take_away() -> None:
    w = world()
    truth = F.one_hot(w.labels.repeat(VIEWS), K) * 0.9 + 0.1 / K
    assert not floor(truth.log(), w.labels).told


def test_constants_of_a_class_are_taken_away() -> None:
    w = world(each=40)
    hidden = 30 * torch.randn(K, K, generator=torch.Generator().manual_seed(6))
    shifted = with_tail(w, w.answers + hidden[w.tops])
    decoded = offset(shifted, w.labels, w.reference)
    assert decoded.told == f"constants added to the non-target classes for {K} of {K} classes"
    assert agreement(shifted, w.answers, w) < 0.5
    assert agreement(decoded.log_probs, w.answers, w) > 0.85
    width = [torch.where(tail(w), x, torch.nan).nanmean(1) - x.amax(1) for x in (decoded.log_probs, w.answers)]
    spread = [
        float((torch.where(tail(w), x, torch.nan) - m[:, None] - x.amax(1, keepdim=True)).nan_to_num().std())
        for x, m in zip((decoded.log_probs, w.answers), width, strict=True)
    ]
    assert spread[0] == pytest.approx(spread[1], rel=0.2)


def test_ranks_give_each_row_the_mean_sorted_values() -> None:
    """Against SciPy's ranks, ties included."""
    z = torch.randint(0, 6, (40, 7), generator=torch.Generator().manual_seed(7)).double().log_softmax(1)
    decoded = ranks(z, torch.zeros(40, dtype=torch.int64)).log_probs.numpy()
    p = z.exp().numpy()
    first = [int(np.argmax(row)) for row in p]
    others = np.array([np.delete(row, t) for row, t in zip(z.numpy(), first, strict=True)])
    curve = np.sort(others - others.mean(1, keepdims=True), 1).mean(0)  # rising
    for new, row, other, t in zip(decoded, p, others, first, strict=True):
        low, high = (rankdata(other, kind).astype(int) for kind in ("min", "max"))
        level = np.array([curve[a - 1 : b].mean() for a, b in zip(low, high, strict=True)])
        expected = np.exp(level) / np.exp(level).sum() * (1 - row[t])
        top = max(row[t], expected.max() * np.exp(LEAD))
        np.testing.assert_allclose(np.exp(np.delete(new, t)), expected / (expected.sum() + top), rtol=1e-9)
        assert np.exp(new[t]) == pytest.approx(top / (expected.sum() + top))


def test_ranks_do_not_see_what_bends_the_other_classes() -> None:
    w = world()._replace(answers=world().answers.double())
    others = torch.where(tail(w), w.answers, -torch.inf)
    power = 0.2 + 0.8 * torch.rand(len(others), 1, generator=torch.Generator().manual_seed(10))
    bent = (power * others).log_softmax(1) + others.logsumexp(1, keepdim=True)
    bent = torch.where(tail(w), bent, w.answers)
    ours, plain = ranks(bent, w.labels).log_probs, ranks(w.answers, w.labels).log_probs
    assert torch.equal(ours.argmax(1), w.tops)
    assert torch.equal(*(torch.where(tail(w), x, torch.inf).argsort(1) for x in (ours, plain)))
    assert agreement(ours, plain, w) > 0.99


# Matrix


def test_the_gradient_of_a_fitted_matrix_is_zero() -> None:
    w = world(k=6, each=60, views=1)
    z, penalty = w.answers.double() - w.answers.double().mean(1, keepdim=True), 0.1
    found = fitted(z.numpy(), w.labels.numpy(), penalty)
    W, b = (torch.tensor(x, requires_grad=True) for x in found)
    pull = z.square().mean() * (W - torch.eye(6)).square().sum() + b.square().sum()
    (F.cross_entropy(z @ W.T + b, w.labels) + penalty / 6 * pull).backward()
    assert W.grad is not None
    assert b.grad is not None
    assert max(float(W.grad.abs().max()), float(b.grad.abs().max())) < 1e-4
    assert np.abs(found[0] - np.eye(6)).max() > 0.01


def test_mixed_classes_are_unmixed_by_a_matrix() -> None:
    w = world()
    A = torch.eye(K) + 0.25 * torch.randn(K, K, generator=torch.Generator().manual_seed(8))
    z = w.answers - w.answers.mean(1, keepdim=True)
    mixed = (z @ A.T).log_softmax(1)
    decoded = matrix(mixed, w.labels)
    assert decoded.told.startswith("matrix scaling")
    right = [float((x.argmax(1) == w.labels.repeat(VIEWS)).double().mean()) for x in (mixed, decoded.log_probs)]
    assert right[1] > right[0] + 0.1


def test_halves_share_no_image_and_hold_half_of_each_class() -> None:
    w = world()
    given = rows(w.answers, w.labels)
    first = halves(given)
    assert not set(given.images[first].tolist()) & set(given.images[~first].tolist())
    counts = [torch.bincount(given.labels[half], minlength=K) for half in (first, ~first)]
    assert torch.equal(*counts)


# Trust


def test_classes_that_leak_nothing_are_not_trusted() -> None:
    w = world()
    mean = torch.stack([w.answers[w.tops == t].mean(0) for t in range(K)])
    half = torch.where((w.tops < 8)[:, None], w.answers, mean[w.tops]).log_softmax(1)
    weights = trust(half, w.labels, w.reference)
    assert float(weights[:8].mean()) > 0.8
    assert float(weights[8:].max()) < 0.05
    assert float(trust(w.answers, w.labels, w.reference).mean()) > 0.8
    noise = torch.randn(w.answers.shape, generator=torch.Generator().manual_seed(9))
    assert float(trust(with_tail(w, 3 * noise), w.labels, w.reference).count_nonzero()) < K / 2


def test_trust_is_what_a_loop_computes() -> None:
    w = world(k=5, each=16, views=1)
    gains = []
    for y in range(5):
        index = [i for i in range(len(w.labels)) if w.labels[i] == y == w.tops[i]]
        others = [j for j in range(5) if j != y]
        t, r = (np.array([x[i, others].double().numpy() for i in index]) for x in (w.answers, w.reference))
        t, r = t - t.mean(1, keepdims=True), r - r.mean(1, keepdims=True)
        saved, error = np.zeros(len(index)), np.zeros(len(index))
        for fit in (0, 1):
            a, b = t - t[fit::2].mean(0), r - r[fit::2].mean(0)
            beta = sum(a[i] @ b[i] for i in range(fit, len(index), 2)) / sum(
                a[i] @ a[i] for i in range(fit, len(index), 2)
            )
            for i in range(1 - fit, len(index), 2):
                error[i], saved[i] = b[i] @ b[i], b[i] @ b[i] - ((b[i] - beta * a[i]) ** 2).sum()
        sure = saved.mean() / (saved.std(ddof=1) / len(index) ** 0.5)
        gains.append(np.sqrt(max(0, saved.mean() / error.mean()) * max(0, 1 - 1 / sure**2)))
    full = np.quantile([g for g in gains if g > 0], 0.75)
    np.testing.assert_allclose(trust(w.answers, w.labels, w.reference).numpy(), np.clip(np.array(gains) / full, 0, 1))


# Change


@pytest.mark.parametrize("then", ["labels", "reversed", "permuted", "softer"])
@pytest.mark.parametrize("honest", [200, 384, 600])
def test_a_teacher_that_turns_is_found_where_it_turns(then: str, honest: int) -> None:
    w = world()
    truth = (F.one_hot(w.labels.repeat(VIEWS), K) * 0.9 + 0.1 / K).log()
    other = {
        "labels": truth,
        "reversed": reversed_(w),
        "permuted": w.answers.gather(1, permutations(w)[w.tops]),
        "softer": (w.answers / 4).log_softmax(1),
    }[then]
    shown = torch.cat([w.answers[:honest], other[honest:]])
    assert abs(change_point(shown, w.labels, w.reference) - honest) <= 3


def test_a_change_of_the_mean_is_measured_by_the_pooled_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    """900 rows of sd 1 and 100 of sd 2.5 have a pooled sd of 1.24: a step of 1.5 is larger, one of 1 is not."""
    g = torch.Generator().manual_seed(13)
    noise = torch.randn(1000, generator=g).double()
    parts = [noise[:900], noise[900:]]
    parts = [(x - x.mean()) / x.std(correction=0) for x in parts]
    even = torch.full((1000, 4), 0.25).log()
    for step, expected in ((1.5, 900), (1.0, 1000)):
        series = torch.cat([parts[0], 2.5 * parts[1] + step])
        monkeypatch.setattr(change, "_statistics", lambda *_, s=series: [s])
        found = change_point(even, torch.zeros(1000, dtype=torch.int64))
        assert abs(found - expected) <= 5


@pytest.mark.parametrize(("turn", "expected"), [(4_940, 5_000), (4_850, 4_850), (60, 5_000)])
def test_a_turn_of_a_fiftieth_of_the_answers_is_none(monkeypatch: pytest.MonkeyPatch, turn: int, expected: int) -> None:
    noise = torch.randn(5_000, generator=torch.Generator().manual_seed(2)).double()
    series = noise + 4 * (torch.arange(5_000) >= turn)
    monkeypatch.setattr(change, "_statistics", lambda *_: [series])
    even = torch.full((5_000, 4), 0.25).log()
    assert change_point(even, torch.zeros(5_000, dtype=torch.int64)) == expected


def test_one_hot_answers_after_a_turn_are_left_out() -> None:
    w = world()
    shown = torch.cat([w.answers[:300], torch.where(tail(w), -torch.inf, 0.0)[300:]])
    assert change_point(shown, w.labels) == 300


def test_the_turn_is_the_likeliest_of_all_points() -> None:
    """By brute force over every point, with NumPy's variances of the same statistics."""
    w = world(k=6, each=30, views=1)
    shown = torch.cat([w.answers[:70], (w.answers / 3).log_softmax(1)[70:]])
    x = torch.stack([_deviations(s, w.labels, 6) for s in _statistics(shown, w.labels, None)], 1)
    assert torch.equal(rows(shown, w.labels).classes, w.labels)
    x = (x / x.std(0)).numpy()

    def gain(at: int) -> float:
        parts = [(len(p), p.var(0)) for p in (x, x[:at], x[at:])]
        whole, left, right = (n * np.log(np.maximum(v, 1e-4)).sum() for n, v in parts)
        return float(whole - left - right)

    assert change_point(shown, w.labels) == max(range(50, len(x) - 49), key=gain)
