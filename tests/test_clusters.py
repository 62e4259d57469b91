"""Clusters of answers: means, distances, and the two maps, against brute force and closed forms."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

import audit.statistics.clusters
from audit.statistics.clusters import VERTICES, barycentric, most_confused, projected, survey

Floats = NDArray[np.float64]


def sample(seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([0, 1, 3, 4], [30, 20, 1, 40]))  # no image of class 2
    z = 2 * rng.standard_normal((len(y), 5))
    z[np.arange(len(y)), y] += 2
    return np.asarray(log_softmax(z, axis=1)), y


@pytest.mark.parametrize("entries", [1, 60, 10**6])
def test_the_survey_agrees_with_brute_force_whatever_is_read_at_once(
    entries: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sklearn.decomposition import PCA

    monkeypatch.setattr(audit.statistics.clusters, "_ENTRIES", entries)
    log_p, y = sample()
    np.save(tmp_path / "answers.npy", log_p)
    found = survey(np.load(tmp_path / "answers.npy", mmap_mode="r"), y)
    P = np.exp(log_p)
    for label in (0, 1, 3, 4):
        assert found.means[label] == pytest.approx(P[y == label].mean(0))
    assert not found.means[2].any()
    assert found.divergence == pytest.approx([entropy(p, P[y == c].mean(0)) for p, c in zip(P, y, strict=True)])
    reference = PCA(2).fit(np.sqrt(P))
    places = reference.transform(np.sqrt(P))
    assert np.abs(projected(P, found)) == pytest.approx(np.abs(places))
    assert found.explained == pytest.approx(reference.explained_variance_ratio_)
    assert found.distinct


def test_directions_that_vary_alike_are_not_told_apart() -> None:
    """Answers that permute the classes: any two directions are as good as any others."""
    log_p = np.log(np.where(np.eye(4, dtype=bool), 0.7, 0.1))
    assert not survey(log_p, np.arange(4)).distinct
    assert survey(np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])), np.array([0, 1, 1])).distinct


def test_the_corners_the_middle_and_the_edges_of_the_triangle_are_where_they_belong() -> None:
    with np.errstate(divide="ignore"):
        log_p = np.log([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1 / 3] * 3, [0.5, 0.5, 0], [0.02, 0.01, 0.01]])
    a, b, c = VERTICES
    expected = [a, b, c, (a + b + c) / 3, (a + b) / 2, a / 2 + b / 4 + c / 4]
    assert barycentric(log_p) == pytest.approx(np.array(expected))
    assert pytest.approx(np.array([[0, 0], [1, 0], [0.5, np.sqrt(3) / 2]])) == VERTICES


def test_three_probabilities_too_small_to_add_up_are_placed_by_their_ratios() -> None:
    assert barycentric(np.array([[-900.0, -900.0, -900.0]])) == pytest.approx(VERTICES.mean(0)[None])
    assert barycentric(np.full((1, 3), -np.inf)) == pytest.approx(VERTICES.mean(0)[None])


def test_the_most_confused_are_the_closest_pair_and_the_third_that_is_closest_to_both() -> None:
    means = softmax(np.random.default_rng(1).standard_normal((6, 6)), axis=1)
    shared = means + means.T
    a, b, c = most_confused(means)
    assert shared[a, b] == max(shared[i, j] for i, j in combinations(range(6), 2))
    others = set(range(6)) - {a, b}
    assert shared[a, c] + shared[b, c] == max(shared[a, k] + shared[b, k] for k in others)
    assert len({a, b, c}) == 3


@pytest.mark.parametrize("classes", [2, 3, 62])
def test_answers_that_are_all_the_same_have_no_directions(classes: int) -> None:
    found = survey(np.full((40, classes), -np.log(classes)), np.arange(40) % 2)
    assert not found.distinct
    assert max(found.explained) < 1e-3
    assert found.divergence == pytest.approx(np.zeros(40), abs=1e-12)
