"""The adaptive attack's chain of decoders: what defenders hide comes back, and nothing is found where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from answer_worlds import World, tail, twin, world
from defenders import (
    LEAKS,
    NOTHING,
    Defender,
    Honest,
    both,
    flipped,
    keyed,
    labels_alone,
    mixed,
    noisy,
    permuted,
    shuffled,
    turning,
)
from torch import Tensor
from torch.nn import functional as F

from attacks.adaptive import chain
from attacks.adaptive.chain import decode, shards
from attacks.adaptive.decoders import Evidence, better, evidence, lies, mean_views, moved, unmix, widths
from attacks.adaptive.decoders.decoding import halves, hidden, rows
from attacks.adaptive.decoders.lies import _mixtures, _shape
from attacks.adaptive.decoders.unmix import RIDGE
from teachers.task import UNLABELLED

K, EACH, VIEWS = 16, 40, 4


def known(w: World) -> Honest:
    return Honest(w.answers, w.labels)


def decoded(w: World, defender: Defender, *, rescaled: bool = False) -> tuple[Tensor, Tensor, str]:
    """Return what a defender shows, what the chain makes of it, and what it says."""
    shown = defender(known(w))
    found = decode(shown, w.labels, w.reference, rescaled=rescaled)
    return shown, found.log_probs, found.told


def recovery(found: Tensor, w: World) -> tuple[float, float]:
    """Return the mean cosine of telling rows with honest ones, deviations from class means, and the share of rows."""
    telling = found.isfinite().all(1)
    if not telling.any():
        return 0.0, 0.0
    agreement = evidence(found, w.labels, w.answers[: len(found)], alike=True).cosines()[telling].mean()
    return float(agreement), float(telling.double().mean())


# What is hidden comes back

LEAST = {  # recovery and share of telling rows, of which less is possible or measured: the others 0.95 and 0.99
    "noisy": (0.7, 0.99),
    "decoys behind 5": (0.57, 0.99),
    "bent": (0.8, 0.99),
    "constants": (0.9, 0.99),
    "constants at temperatures": (0.9, 0.99),
    "biased": (0.9, 0.99),
    "mixed": (0.65, 0.99),
    "labels for every other query": (0.95, 0.49),
    "labels for half of the queries": (0.9, 0.9),
    "labels for 80 % of the queries": (0.75, 0.5),
    "shuffled for half of the queries": (0.75, 0.6),
    "shuffled for every other query": (0.95, 0.49),
    "labels for half of the images": (0.95, 0.4),
    "shuffled for half of the images": (0.85, 0.4),
    "shuffled for a third of the classes": (0.95, 0.5),
    # What other crops of an image told stands for what was not told of a crop.
    "labels after a fifth": (0.88, 0.75),
    "shuffled after a fifth": (0.88, 0.75),
    "labels after a twentieth": (0.88, 0.15),
    "permuted, then labels": (0.89, 0.99),
    "noisy and permuted": (0.75, 0.99),
    "backwards and noisy": (0.75, 0.99),
    "permuted, labels for half": (0.9, 0.9),
    "backwards, shuffled for half": (0.75, 0.6),
}
HOPELESS = ("rounded to 1 digit", "rounded to 2 digits")  # no row shows every class: surfaces do that, too


@pytest.mark.parametrize("name", [name for name in LEAKS if name not in HOPELESS])
def test_what_a_defender_hides_comes_back(name: str) -> None:
    w = world(K, EACH, VIEWS)
    _, found, _ = decoded(w, LEAKS[name])
    least, share = LEAST.get(name, (0.95, 0.99))
    agreement, telling = recovery(found, w)
    assert agreement > least
    assert telling >= share


@pytest.mark.parametrize("name", ["permuted", "labels for half of the queries", "backwards", "noisy"])
def test_defences_are_seen_among_few_and_among_many_classes(name: str) -> None:
    for k, each in ((10, 60), (30, 20)):
        w = world(k, each, VIEWS, seed=3)
        shown, found, told = decoded(w, LEAKS[name])
        assert told
        assert recovery(found, w)[0] > recovery(shown, w)[0] + 0.1


# Nothing is found where nothing is


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize("seed", [0, 1])
def test_answers_without_knowledge_are_not_claimed_to_be_decoded(name: str, seed: int) -> None:
    w = world(K, EACH, VIEWS, seed)
    _, found, told = decoded(w, NOTHING[name])
    assert not told
    assert abs(recovery(found, w)[0]) < 0.1


def test_means_of_classes_are_no_uniform_part() -> None:
    w = world(5, 40, 2)
    means = torch.stack([w.answers[w.tops == t].mean(0) for t in range(5)]).log_softmax(1)[w.tops]
    assert not decode(means, w.labels, w.reference, rescaled=False).told


@pytest.mark.parametrize("shape", [(5, 60, 4), (10, 40, 3), (16, 24, 2), (30, 20, 4)])
@pytest.mark.parametrize("seed", [11, pytest.param(12, marks=pytest.mark.slow)])
def test_honest_answers_stay_as_they_are_at_any_temperature(shape: tuple[int, int, int], seed: int) -> None:
    w = world(*shape, seed)
    for shown in (w.answers, (w.answers / 4).log_softmax(1), twin(w)):
        found = decode(shown, w.labels, w.reference, rescaled=False)
        assert found.told == ""
        assert torch.equal(found.log_probs, shown)


@pytest.mark.parametrize("k", [10, 16, 30])
def test_a_student_that_knows_less_is_not_the_measure_of_a_cautious_decoding(k: int) -> None:
    """Its classes are a map of the teacher's, as those of a student of few images: honest answers seem mixed."""
    w = world(k, EACH, VIEWS)
    dull = torch.eye(k) + 0.6 * torch.randn(k, k, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(w.answers.shape, generator=torch.Generator().manual_seed(1))
    poor = ((w.answers - w.answers.mean(1, keepdim=True)) @ dull.T + noise).log_softmax(1)
    assert "classes mixed by a linear map" in decode(w.answers, w.labels, poor, rescaled=False).told
    found = decode(w.answers, w.labels, poor, rescaled=False, cautious=True)
    assert found.told == ""
    assert torch.equal(found.log_probs, w.answers)


@pytest.mark.parametrize("name", ["backwards", "permuted", "labels for half of the queries", "noisy"])
def test_a_cautious_decoding_finds_what_else_is_hidden(name: str) -> None:
    w = world(K, EACH, VIEWS)
    shown = LEAKS[name](known(w))
    found = decode(shown, w.labels, w.reference, rescaled=False, cautious=True)
    least, share = LEAST.get(name, (0.95, 0.99))
    agreement, telling = recovery(found.log_probs, w)
    assert agreement > least
    assert telling >= share
    assert "linear map" not in found.told


# Parts of the answers


@pytest.mark.parametrize(("first", "part"), [(False, "before"), (True, "after")])
def test_the_part_that_tells_more_is_used(first: bool, part: str) -> None:
    w = world(K, EACH, VIEWS)
    _, found, told = decoded(w, turning(shuffled, 0.375, first=first))
    assert f"after 960 queries, only {part}" in told
    assert recovery(found, w)[0] > 0.9
    honest = slice(0, 960) if part == "before" else slice(960, None)
    assert torch.equal(found[honest], w.answers[honest])


def test_both_parts_are_used_where_both_can_be_decoded() -> None:
    w = world(K, EACH, VIEWS)
    _, found, told = decoded(w, turning(permuted, 0.5))
    assert told == "the answers change after 1,280 queries; after: non-target classes permuted for 16 of 16 classes"
    assert recovery(found, w) > (0.99, 0.99)


def test_answers_that_were_left_out_are_filled_with_what_the_images_other_views_told() -> None:
    w = world(K, EACH, VIEWS)
    images = len(w.labels)
    _, found, _ = decoded(w, turning(shuffled, 0.25))
    torch.testing.assert_close(found, w.answers[:images].repeat(VIEWS, 1))
    shown = hidden(w.answers, w.labels, torch.arange(len(w.answers)) == images + 5)
    filled = chain._filled(shown, w.answers, images)
    others = [w.answers[v * images + 5] for v in (0, 2, 3)]
    torch.testing.assert_close(filled[images + 5], torch.stack(others).mean(0).log_softmax(0))
    assert torch.equal(chain._filled(shown, shown, images), shown), "what a surface hides stays hidden"


@pytest.mark.parametrize("images", [70, 200, 480])
def test_a_shard_holds_enough_images_of_a_class_and_as_many_classes_as_fit(
    images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = torch.randint(-1, K, (40 * K,), generator=torch.Generator().manual_seed(0))
    every = torch.arange(len(classes))
    (whole,) = shards(classes, chain.WHOLE // len(classes))
    assert torch.equal(whole, every)
    for attribute, value in (("WHOLE", 9 * len(classes) - 1), ("EACH", 12), ("SHARD", 9 * images)):
        monkeypatch.setattr(chain, attribute, value)
    split = shards(classes, 9)
    assert torch.equal(torch.cat(split).sort().values, every), "every image is in one shard"
    assert len(split) == -(-len(classes) // images)
    for shard in split:
        assert (shard.diff() > 0).all(), "images are in the order in which they were asked about"
        number = torch.bincount(classes[shard] + 1)
        assert int(((number > 0) & (number < 12)).sum()) <= 2, "only the first class of a shard and the last may be cut"
        assert len(shard) <= images


def rows_by_shard(w: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Return the images of five shards of a world, and the rows about them."""
    images, views = len(w.labels), len(w.answers) // len(w.labels)
    for attribute, value in (("WHOLE", 0), ("EACH", 20), ("SHARD", w.answers.numel() // 5)):
        monkeypatch.setattr(chain, attribute, value)
    split = shards(w.labels, views * w.answers.shape[1])
    return [(shard, (images * torch.arange(views)[:, None] + shard).flatten()) for shard in split]


SHARDS = {"permuted": 0.99, "noisy": 0.99, "labels for half of the queries": 0.9}


@pytest.mark.parametrize("name", SHARDS)
def test_shards_of_the_images_are_decoded_like_all_of_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    w = world(K, EACH, VIEWS)
    shown, whole, _ = decoded(w, LEAKS[name])
    found = torch.empty_like(shown)
    for shard, at in rows_by_shard(w, monkeypatch):
        found[at] = decode(shown[at], w.labels[shard], w.reference[at], rescaled=False, swaps=False).log_probs
    assert recovery(found, w)[0] > recovery(whole, w)[0] - 0.1
    assert recovery(found, w)[1] >= SHARDS[name]


def test_nothing_is_called_a_swap_in_a_shard_of_few_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows no image of most classes that mistakes name, and so makes swaps of a blunt teacher's mistakes."""
    w = world(100, 20, 2)
    shown = twin(w)
    assert not moved(shown, w.labels, w.reference).told
    split = rows_by_shard(w, monkeypatch)
    assert any(moved(shown[at], w.labels[shard], w.reference[at]).told for shard, at in split)
    w = world(K, EACH, VIEWS)
    shown = flipped(1)(known(w))
    said = [decode(shown, w.labels, w.reference, rescaled=False, swaps=swaps).told for swaps in (True, False)]
    assert ["top class moved" in told for told in said] == [True, False]


# Evidence


def test_evidence_is_what_a_loop_computes() -> None:
    w = world(5, 12, 1)
    mistaken = torch.arange(len(w.labels)) % 7 == 0
    w = w._replace(labels=torch.where(mistaken, (w.labels + 1) % 5, w.labels))
    shown = permuted(known(w))
    found = evidence(shown, w.labels, w.reference)
    tops = shown.argmax(1)
    z = {}
    for name, x in (("theirs", shown), ("ours", w.reference)):
        rest = x.double().numpy().copy()
        for i, (y, t) in enumerate(zip(w.labels.tolist(), tops.tolist(), strict=True)):
            stay = [j for j in range(5) if j not in (y, t)]
            rest[i] = [x[i, j].item() - x[i, stay].double().mean().item() if j in stay else 0.0 for j in range(5)]
        z[name] = rest
    total = np.zeros(3)
    for i, (y, t) in enumerate(zip(w.labels.tolist(), tops.tolist(), strict=True)):
        alike = [n for n in range(len(w.labels)) if w.labels[n] == y]
        a, b = (
            np.array([z[name][i, j] - z[name][alike, j].mean() if j not in (y, t) else 0.0 for j in range(5)])
            for name in z
        )
        assert float(found.joint[i]) == pytest.approx(a @ b, abs=1e-5)
        assert float(found.cosines()[i]) == pytest.approx(a @ b / np.sqrt((a @ a) * (b @ b)), abs=1e-5)
        total += [a @ b, a @ a, b @ b]
    assert found.cosine() == pytest.approx(total[0] / np.sqrt(total[1] * total[2]), abs=1e-6)
    assert float(found.gains().mean()) == pytest.approx(found.cosine(), abs=1e-6)


def test_better_needs_a_sure_gain_by_the_factor() -> None:
    w = world(K, EACH, VIEWS)
    plain = evidence(w.answers, w.labels, w.reference)
    noise = evidence(noisy(4.0)(known(w)), w.labels, w.reference)
    assert better(plain, noise, 1.1)
    assert not better(plain, noise, 2 * plain.cosine() / noise.cosine())
    assert not better(noise, plain, 0.1), "what agrees less is not better, whatever the factor"
    one, images = torch.ones(6, dtype=torch.float64), torch.arange(6)
    surely, hardly = torch.tensor([3.0, 3, 3, 3, 3, 2]), torch.tensor([9.0, 1, 4, 1, 1, 1])
    small = [Evidence(joint.double() / 10, one, one, images) for joint in (one, surely, hardly)]
    assert better(small[1], small[0], 1.5)
    assert not better(small[2], small[0], 1.5), "one image alone makes the difference"


def test_the_width_of_a_row_counts_unless_rows_are_alike() -> None:
    w = world(K, EACH, VIEWS)
    c = 4 ** (2 * torch.rand(len(w.answers), 1, generator=torch.Generator().manual_seed(1)) - 1)
    shown = (c * w.answers).log_softmax(1)
    apart, alike = (
        [evidence(x, w.labels, w.reference, alike=a).cosine() for x in (shown, w.answers)] for a in (False, True)
    )
    assert apart[0] < 0.9 * apart[1]
    assert alike[0] == pytest.approx(alike[1], abs=1e-4)


# Lies


@pytest.mark.parametrize("lie", [labels_alone, shuffled])
def test_lies_are_left_out_and_honest_answers_stay(lie: Defender) -> None:
    w = world(30, 30, VIEWS)
    shown = keyed(lie, 0.5)(known(w))
    honest = (shown == w.answers).all(1)
    found = lies(shown, w.labels, w.reference).log_probs
    telling = found.isfinite().all(1)
    assert float((telling & ~honest).sum() / (~honest).sum()) < 0.05
    assert float((telling & honest).sum() / honest.sum()) > 0.9
    assert torch.equal(found[telling], shown[telling])
    assert torch.equal(found[~telling].argmax(1), w.labels.repeat(VIEWS)[~telling]), "the label alone stays"


def test_classes_that_lie_are_left_out() -> None:
    w = world(K, EACH, VIEWS)
    found = lies(keyed(shuffled, 0.34, "class")(known(w)), w.labels, w.reference).log_probs
    silent = ~found.isfinite().all(1)
    assert float(silent[w.tops < 5].double().mean()) > 0.95
    assert float(silent[w.tops >= 6].double().mean()) < 0.15


def test_a_poor_reference_makes_no_lies() -> None:
    w = world(K, EACH, VIEWS)
    other = torch.randn(w.reference.shape, generator=torch.Generator().manual_seed(3))
    for noise in (3.0, 10.0, 100.0):
        assert not lies(w.answers, w.labels, (w.reference + noise * other).log_softmax(1)).told


def test_two_groups_are_those_of_a_gaussian_mixture() -> None:
    """Against scikit-learn's, from the same start."""
    from sklearn.mixture import GaussianMixture

    g = torch.Generator().manual_seed(5)
    x = torch.cat([torch.randn(300, 2, generator=g) - 2, 0.5 * torch.randn(200, 2, generator=g) + 1]).double()
    first = _mixtures(x, (torch.arange(500) < 260).double()[None])[0][0] > 0.5
    theirs = GaussianMixture(2, random_state=0, reg_covar=1e-3, tol=1e-8, max_iter=500).fit(x.numpy())
    labels = torch.from_numpy(theirs.predict(x.numpy()) == theirs.predict(x[:1].numpy()))
    assert int((first != labels).sum()) <= 2


def test_the_shape_of_an_answer_does_not_depend_on_the_reference_or_on_its_class() -> None:
    w = world(K, EACH, VIEWS)
    shape = _shape(w.answers, w.labels)
    assert shape.shape == (len(w.answers), 4)
    of_class = torch.stack([shape[w.labels.repeat(VIEWS) == y].mean(0) for y in range(K)])
    torch.testing.assert_close(of_class, torch.zeros_like(of_class), atol=1e-6, rtol=0)


# The top class


@pytest.mark.parametrize("rank", [1, None])
def test_a_top_class_that_was_swapped_is_swapped_back(rank: int | None) -> None:
    w = world(K, EACH, VIEWS)
    shown = keyed(flipped(rank), 0.5, "image")(known(w))
    found = moved(shown, w.labels, w.reference)
    assert "top class moved" in found.told
    honest = w.tops == w.labels.repeat(VIEWS)
    assert torch.equal(found.log_probs[honest], w.answers[honest])


def test_honest_mistakes_are_no_moves() -> None:
    """A teacher that takes images of one class for those of another is answered as it was."""
    w = world(K, EACH, VIEWS)
    for seed in range(5):
        wrong = torch.rand(len(w.labels), generator=torch.Generator().manual_seed(seed)) < 0.3
        other = torch.randint(0, K, w.labels.shape, generator=torch.Generator().manual_seed(seed))
        labels = torch.where(wrong, other, w.labels)
        assert not moved(w.answers, labels, w.reference).told
    unknown = torch.full_like(w.labels, UNLABELLED)
    assert not moved(flipped(1)(known(w)), unknown, w.reference).told


# Noise, temperatures, mixtures


def test_the_mean_of_views_is_that_of_their_logits() -> None:
    w = world(K, EACH, VIEWS)
    shown = hidden(w.answers, w.labels, torch.arange(len(w.answers)) == 3)
    images = len(w.labels)
    found = mean_views(shown, w.labels).log_probs
    for image, views in ((3, (1, 2, 3)), (8, (0, 1, 2, 3))):
        expected = torch.stack([w.answers[v * images + image] for v in views]).mean(0).log_softmax(0)
        for v in views:
            torch.testing.assert_close(found[v * images + image], expected)
    assert torch.equal(found[3], shown[3])


def test_widths_make_the_rows_of_a_class_equally_wide() -> None:
    w = world(K, EACH, VIEWS)
    c = 4 ** (2 * torch.rand(len(w.answers), 1, generator=torch.Generator().manual_seed(1)) - 1)
    shown = (c * w.answers).log_softmax(1)

    def width(x: Tensor) -> Tensor:
        return x[tail(w)].view(len(x), -1).std(1, correction=0)

    found = widths(shown, w.labels).log_probs
    for y in range(K):
        mine = w.tops == y
        torch.testing.assert_close(width(found)[mine], width(shown)[mine].log().mean().exp().expand(int(mine.sum())))
    assert torch.equal(found.argmax(1), w.tops)


def test_unmixing_is_ridge_regression_on_the_other_half_of_the_images() -> None:
    """Against scikit-learn's, with an intercept."""
    from sklearn.linear_model import Ridge

    w = world(6, 30, 2)
    shown = mixed(0.5)(known(w))
    found = unmix(shown, w.labels, w.reference).log_probs
    z, r = ((x.double() - x.double().mean(1, keepdim=True)).numpy() for x in (shown, w.reference))
    first = halves(rows(shown, w.labels)).numpy()
    for half in (first, ~first):
        centred = z[half] - z[half].mean(0)
        model = Ridge(alpha=RIDGE * (centred**2).mean() * half.sum()).fit(z[half], r[half])
        expected = torch.from_numpy(model.predict(z[~half])).log_softmax(1)
        torch.testing.assert_close(found[torch.from_numpy(~half)].double(), expected, atol=1e-4, rtol=0)


def test_answers_that_are_all_alike_can_be_unmixed_to_nothing() -> None:
    w = world(6, 30, 2)
    even = torch.full_like(w.answers, -float(np.log(6)))
    assert unmix(even, w.labels, w.reference).log_probs.isfinite().all()
    assert not decode(even, w.labels, w.reference, rescaled=False).told


def test_a_strong_mixture_is_unmixed_and_is_no_permutation() -> None:
    w = world(K, EACH, VIEWS)
    shown, found, told = decoded(w, mixed(1.0))
    assert "permuted" not in told
    assert recovery(found, w)[0] > recovery(shown, w)[0] + 0.2


def test_constants_and_a_swap_are_told_apart() -> None:
    """Both name other classes than the label; of the two ways back, the one is taken that keeps what the rest tells."""
    w = world(K, EACH, VIEWS)
    biased = LEAKS["biased"](known(w))
    swapped = decode(flipped(1)(known(w)), w.labels, w.reference, rescaled=False)
    assert swapped.told == "top class moved in 100 % of the answers"
    assert float((biased.argmax(1) != w.labels.repeat(VIEWS)).double().mean()) > 0.25
    found = decode(biased, w.labels, w.reference, rescaled=False)
    assert float((found.log_probs.argmax(1) == w.labels.repeat(VIEWS)).double().mean()) > 0.95


def test_two_defences_at_once_are_undone_one_after_the_other() -> None:
    w = world(K, EACH, VIEWS)
    defender = both(permuted, keyed(labels_alone, 0.5))
    _, found, told = decoded(w, defender)
    assert told.startswith("non-target classes permuted for 16 of 16 classes; tell nothing about the image")
    assert recovery(found, w)[0] > 0.9
    assert float(F.cosine_similarity(found, w.answers[: len(found)])[found.isfinite().all(1)].mean()) > 0.9
