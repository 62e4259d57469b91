"""A choice is made where it is clear and not where it is not; another order of classes is found on held-out images."""

import numpy as np
import pytest

from teachers.proportions import LEVEL, mcnemar
from teachers.targets.selection import choose, permuted

N, K = 400, 10


def right(share: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(N) < share


def test_the_best_is_clear_where_it_beats_every_other_after_correction() -> None:
    tried = {"a": right(0.5, 1), "b": right(0.9, 2), "c": right(0.1, 3)}
    found = choose(tried)
    assert (found.best, found.clear, found.rivals) == ("b", True, ())
    assert list(found.accuracies) == ["b", "a", "c"]
    assert found.p["a"] == pytest.approx(2 * mcnemar(tried["b"], tried["a"]))


def test_two_that_tie_are_named_and_the_first_of_equals_leads() -> None:
    same = right(0.9)
    found = choose({"a": right(0.3, 1), "b": same, "c": same.copy()})
    assert (found.best, found.clear, found.rivals, found.p["c"]) == ("b", False, ("c",), 1.0)


@pytest.mark.parametrize(("gained", "clear"), [(10, False), (12, True)])
def test_the_correction_grows_with_the_number_of_others(gained: int, clear: bool) -> None:
    """2⁻¹⁰ is below a thousandth, three times as much is not."""
    best = np.ones(N, bool)
    other = best.copy()
    other[:gained] = False
    assert 0.5**gained < LEVEL
    assert choose({"best": best, "x": other, "y": other, "z": other}).clear == clear
    assert choose({"best": best, "x": other}).clear


def test_what_fell_on_few_images_stays_behind_and_the_others_are_compared_on_more() -> None:
    first = choose({"a": right(0.1, 1), "b": right(0.9, 2), "c": right(0.89, 3)})
    assert {first.best, *first.rivals} == {"b", "c"}
    both = first.then(choose({"b": right(0.5, 4), "c": right(0.9, 5)}, others=2))
    assert list(both.accuracies) == ["c", "b", "a"]
    assert both.clear
    assert both.p["a"] == first.p["a"]
    assert both.p["b"] == pytest.approx(2 * mcnemar(right(0.9, 5), right(0.5, 4)))


def test_one_way_alone_is_clear() -> None:
    assert choose({"only": right(0.2)}).clear


def labelled(accuracy: float, classes: int = K, images: int = N) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, images)
    return np.where(rng.random(images) < accuracy, labels, rng.integers(0, classes, images)).astype(np.uint16), labels


def test_a_permutation_is_found_and_judged_on_other_images() -> None:
    tops, labels = labelled(0.8)
    order = np.random.default_rng(1).permutation(K)  # output j means class order[j]
    outputs = np.argsort(order)[tops].astype(np.uint16)
    found = permuted(outputs, labels, K)
    assert found is not None
    assert found.classes == tuple(order)
    assert found.images == N // 2
    assert found.accuracy == pytest.approx((tops[1::2] == labels[1::2]).mean())
    assert found.before < 0.3
    assert found.p < LEVEL


def test_an_order_that_leaves_more_than_half_of_the_errors_is_none() -> None:
    tops, labels = labelled(0.3)
    outputs = np.roll(np.arange(K), 1)[tops].astype(np.uint16)
    assert mcnemar(np.roll(np.arange(K), -1)[outputs] == labels, outputs == labels) < LEVEL
    assert permuted(outputs, labels, K) is None


def test_two_classes_that_changed_places_are_enough() -> None:
    tops, labels = labelled(0.9)
    swap = np.array([1, 0, *range(2, K)])
    found = permuted(swap[tops].astype(np.uint16), labels, K)
    assert found is not None
    assert found.classes == tuple(swap)


@pytest.mark.parametrize("accuracy", [0.0, 0.3, 0.9])
def test_a_network_in_the_right_order_has_no_better_one(accuracy: float) -> None:
    """At chance an assignment always fits the images that it was found on, and not others."""
    tops, labels = labelled(accuracy)
    assert permuted(tops, labels, K) is None


def test_classes_that_no_image_shows_stay_where_they_are() -> None:
    tops, labels = labelled(0.9, classes=5)
    swap = np.array([1, 0, 2, 3, 4])
    found = permuted(swap[tops].astype(np.uint16), labels, K)
    assert found is not None
    assert found.classes == (1, 0, *range(2, K))


def test_images_without_an_answer_are_wrong_whatever_the_order() -> None:
    tops, labels = labelled(0.9)
    tops[:] = K
    assert permuted(tops, labels, K) is None
