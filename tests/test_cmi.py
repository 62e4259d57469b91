import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

import audit.statistics.cmi
from audit.statistics.cmi import FEWEST_IMAGES, TEMPERATURES, Curve, curve

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def sample(seed: int, counts: list[int], *, scale: float = 2.0) -> tuple[Floats, Ints]:
    """Draw log-probabilities and shuffled labels with the given number of images a class."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    z = scale * rng.standard_normal((len(y), len(counts)))
    z[np.arange(len(y)), y] += scale
    return np.asarray(log_softmax(z, axis=1)), y


def cmi(P: Floats, y: Ints, K: int) -> Curve:
    """Measure probabilities as they are, at temperature 1 alone."""
    with np.errstate(divide="ignore"):
        return curve(np.log(P), y, K, [1.0])


def separation(P: Floats, y: Ints, K: int) -> float:
    return float(cmi(P, y, K).gamma[0])


def brute_plug_in(P: Floats, y: Ints) -> float:
    return float(np.mean([entropy(p, P[y == label].mean(axis=0)) for p, label in zip(P, y, strict=True)]))


def brute_separation(P: Floats, y: Ints) -> float:
    n = len(y)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    return sum(-float(P[i] @ np.log(np.maximum(P[j], 1e-12))) for i, j in pairs if y[i] != y[j]) / len(pairs)


UNEQUAL = [[10, 10, 10], [30, 1, 7, 0, 12], [2, 2], [1, 40]]


@pytest.mark.parametrize("counts", UNEQUAL)
@pytest.mark.parametrize("scale", [0.1, 2.0, 20.0])
def test_plug_in_agrees_with_the_sum_over_images(counts: list[int], scale: float) -> None:
    log_p, y = sample(1, counts, scale=scale)
    P = np.exp(log_p)
    assert cmi(P, y, len(counts)).plug_in[0] == pytest.approx(brute_plug_in(P, y), rel=1e-9)


@pytest.mark.parametrize("counts", UNEQUAL)
def test_separation_agrees_with_the_sum_over_pairs(counts: list[int]) -> None:
    log_p, y = sample(2, counts, scale=8.0)
    P = np.exp(log_p)
    assert separation(P, y, len(counts)) == pytest.approx(brute_separation(P, y), rel=1e-9)


def test_logarithms_of_the_separation_are_floored() -> None:
    y = np.array([0, 0, 1])
    assert separation(np.eye(2)[y], y, 2) == pytest.approx(-4 / 6 * math.log(1e-12))


@pytest.mark.parametrize("rows", [1, 7, 25, 10**6])
def test_a_class_that_is_swept_in_parts_gives_the_same(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [30, 1, 7, 0, 12]
    log_p, y = sample(3, counts)
    P = np.exp(log_p)
    monkeypatch.setattr(audit.statistics.cmi, "_ENTRIES", rows * 5 * 2)  # of five classes, at 1 and at its double
    found = cmi(P, y, 5)
    assert found.plug_in[0] == pytest.approx(brute_plug_in(P, y), rel=1e-9)
    assert separation(P, y, 5) == pytest.approx(brute_separation(P, y), rel=1e-9)
    for label in (0, 2, 4):
        alone = cmi(P[y == label], np.zeros(counts[label], np.int64), 5)
        assert found.per_class[0, label] == pytest.approx(alone.cmi[0])


def test_two_kinds_of_answers_have_a_closed_form() -> None:
    a, n = 0.1, 60
    P = np.array([[1 - a, a], [a, 1 - a]]).repeat(n // 2, axis=0)
    found = cmi(P, np.zeros(n, np.int64), 2)
    value = math.log(2) + a * math.log(a) + (1 - a) * math.log(1 - a)
    variance = (0.5 - a) ** 2 * n / (n - 1)
    assert found.plug_in[0] == pytest.approx(value)
    assert found.cmi[0] == pytest.approx(value + 2 * variance / 0.5 / (2 * n))
    assert found.se[0] == pytest.approx(0.0, abs=1e-12)


def test_answers_that_do_not_vary_within_a_class_tell_nothing_more() -> None:
    rows = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])
    y = np.repeat(np.arange(3), 5)
    found = cmi(rows[y], y, 3)
    assert found.plug_in[0] == pytest.approx(0.0, abs=1e-14)
    assert found.cmi[0] == pytest.approx(0.0, abs=1e-14)


def test_the_whole_is_weighted_by_images_not_by_classes() -> None:
    log_p, y = sample(4, [200, 60, 2, 0])
    found = cmi(np.exp(log_p), y, 4)
    assert found.counts.tolist() == [200, 60, 2, 0]
    assert found.cmi[0] == pytest.approx((found.counts[:3] @ found.per_class[0, :3]) / 262)


def test_a_class_of_one_image_is_left_out_of_the_corrected_mean() -> None:
    log_p, y = sample(5, [40, 1, 0, 40])
    P = np.exp(log_p)
    found, without = cmi(P, y, 4), cmi(P[y != 1], y[y != 1], 4)
    assert np.isnan(found.per_class[0]).tolist() == [False, True, True, False]
    assert found.cmi[0] == pytest.approx(without.cmi[0])


def test_one_image_of_every_class_gives_no_corrected_value() -> None:
    P = np.full((3, 3), 1 / 3)
    found = cmi(P, np.arange(3), 3)
    assert found.plug_in[0] == pytest.approx(0.0, abs=1e-14)
    assert math.isnan(found.cmi[0])
    assert math.isnan(cmi(P[:1], np.array([0]), 3).se[0])


def test_small_and_missing_classes_are_unreliable() -> None:
    log_p, y = sample(6, [FEWEST_IMAGES, FEWEST_IMAGES - 1, 1, 0])
    assert cmi(np.exp(log_p), y, 4).unreliable.tolist() == [False, True, True, True]


def peaked(rng: np.random.Generator, n: int) -> Floats:
    z = 2.5 * rng.standard_normal((n, 30))
    z[:, 0] += 8
    return np.asarray(softmax(z, axis=1))


def flat(rng: np.random.Generator, n: int) -> Floats:
    return np.asarray(softmax(0.5 * rng.standard_normal((n, 30)), axis=1))


@pytest.mark.parametrize(("draw", "mended"), [(peaked, 0.4), (flat, 0.85)])
def test_the_correction_mends_the_bias_of_the_plug_in(draw: Any, mended: float) -> None:
    rng = np.random.default_rng(7)
    population = draw(rng, 200_000)
    truth = cmi(population, np.zeros(len(population), np.int64), 30).plug_in[0]
    draws, n = 2000, FEWEST_IMAGES
    P = population[rng.integers(0, len(population), draws * n)]
    one = np.zeros(n, np.int64)
    each = [cmi(P[i * n : (i + 1) * n], one, 30) for i in range(draws)]
    plug_in = np.mean([e.plug_in[0] for e in each]) - truth
    corrected = np.mean([e.cmi[0] for e in each]) - truth
    assert plug_in < 0
    assert abs(corrected) < (1 - mended) * abs(plug_in)


def test_the_standard_error_of_a_class_is_that_of_the_class_alone() -> None:
    log_p, y = sample(17, [60, 40, 1])
    found = curve(log_p, y, 3)
    for label in (0, 1):
        alone = curve(log_p[y == label], np.zeros((y == label).sum(), np.int64), 3)
        assert found.per_class_se[:, label] == pytest.approx(alone.se)
    assert np.isnan(found.per_class_se[:, 2]).all()


def test_the_standard_error_is_the_scatter_over_samples() -> None:
    rng = np.random.default_rng(8)
    each = [cmi(peaked(rng, 400), np.zeros(400, np.int64), 30) for _ in range(400)]
    scatter = np.std([e.plug_in[0] for e in each])
    assert np.mean([e.se[0] for e in each]) == pytest.approx(scatter, rel=0.15)


def at_temperature(log_p: Floats, T: float) -> Floats:
    return np.asarray(softmax(log_p / T, axis=1))


GRIDS = [TEMPERATURES, (1.0, 3.0, 0.5, 2.0, 0.7, 1.0), (0.9,), tuple(2.0**-i for i in range(5)), (5.0, 4.0, 3.0)]


@pytest.mark.parametrize("temperatures", GRIDS)
def test_the_curve_agrees_with_the_sum_over_images_at_every_temperature(temperatures: tuple[float, ...]) -> None:
    log_p, y = sample(9, [60, 80, 55])
    found = curve(log_p, y, 3, temperatures)
    assert found.temperatures.tolist() == list(temperatures)
    for i, T in enumerate(temperatures):
        P = at_temperature(log_p, T)
        alone = cmi(P, y, 3)
        assert found.plug_in[i] == pytest.approx(brute_plug_in(P, y), rel=1e-8)
        for name in ("cmi", "se", "gamma", "ncmi"):
            assert getattr(found, name)[i] == pytest.approx(getattr(alone, name)[0], rel=1e-8)
        assert found.per_class[i] == pytest.approx(alone.per_class[0], rel=1e-8)
        assert found.ncmi[i] == found.cmi[i] / found.gamma[i]


@pytest.mark.parametrize("scale", [0.01, 0.5, 3.0, 12.0])
@pytest.mark.parametrize("counts", [[40] * 3, [100] * 20])
def test_single_precision_is_right_to_a_millionth_of_a_nat(scale: float, counts: list[int]) -> None:
    log_p, y = sample(10, counts, scale=scale)
    temperatures = [2.0 ** (i / 2 - 2) for i in range(20)]
    rounded = log_p.astype(np.float32)
    found = curve(rounded, y, len(counts), temperatures)
    exact = curve(rounded.astype(np.float64), y, len(counts), temperatures)
    for name in ("plug_in", "cmi", "se"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name), abs=1e-6)
    assert found.per_class == pytest.approx(exact.per_class, abs=3e-6)
    assert found.gamma == pytest.approx(exact.gamma, rel=1e-6)


def test_many_squarings_in_a_row_lose_nothing() -> None:
    log_p, y = sample(14, [60, 80])
    rounded = log_p.astype(np.float32)
    found = curve(rounded, y, 2, [2.0 ** (10 - i) for i in range(13)])
    for i in (0, 6, 7, 8, 12):
        P = at_temperature(rounded.astype(np.float64), found.temperatures[i])
        assert found.plug_in[i] == pytest.approx(brute_plug_in(P, y), abs=1e-6)


def test_a_nearly_constant_teacher_has_a_tiny_value_and_not_a_negative_one() -> None:
    log_p, y = sample(15, [500, 500], scale=1e-4)
    found = curve(log_p.astype(np.float32), y, 2)
    assert (found.plug_in >= 0).all()
    assert found.plug_in == pytest.approx(0, abs=5e-7)


def test_answers_in_a_file_are_read_without_copying_them(tmp_path: Path) -> None:
    log_p, y = sample(16, [60, 80, 55])
    np.save(tmp_path / "answers.npy", log_p.astype(np.float32))
    mapped = np.load(tmp_path / "answers.npy", mmap_mode="r")
    assert np.array_equal(curve(mapped, y, 3).cmi, curve(log_p.astype(np.float32), y, 3).cmi)


def test_memory_does_not_grow_with_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit.statistics.cmi, "_ENTRIES", 50_000)

    def peak(images: int) -> int:
        mapped = np.lib.format.open_memmap(tmp_path / f"{images}.npy", "w+", np.float32, (images, 50))
        mapped[:] = np.random.default_rng(0).standard_normal(mapped.shape, np.float32)
        y = np.arange(images) % 2  # so that a class does not fit either
        tracemalloc.start()
        curve(mapped, y, 50)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = 4_000, 16_000
    assert peak(many) - peak(few) < (many - few) * 50 * np.float32().itemsize


def test_logits_of_any_size_are_taken() -> None:
    z, y = np.array([[5000.0, 4999.0], [-5000.0, -5001.0], [3.0, 5.0]]), np.zeros(3, np.int64)
    assert curve(z, y, 2).plug_in == pytest.approx(curve(z - z.max(1, keepdims=True), y, 2).plug_in)


def test_answers_are_left_alone() -> None:
    log_p, y = sample(10, [5, 5])
    before = log_p.copy()
    curve(log_p, y, 2)
    assert np.array_equal(log_p, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_probabilities_stay_zero_at_every_temperature(dtype: Any) -> None:
    log_p = np.array([[0.0, -np.inf, -1.0], [-2.0, 0.0, -np.inf], [-1.0, -np.inf, 0.0], [0.0, -800.0, -745.0]])
    y = np.array([0, 1, 0, 0])
    found = curve(log_p.astype(dtype), y, 3, [0.25, 1.0, 32.0])
    for i, T in enumerate((0.25, 1.0, 32.0)):
        P = at_temperature(log_p, T)
        assert found.plug_in[i] == pytest.approx(brute_plug_in(P, y), rel=1e-6)
        assert math.isfinite(found.cmi[i])
        assert found.gamma[i] == pytest.approx(brute_separation(P, y), rel=1e-6)


def test_an_entry_too_small_for_its_mean_does_not_make_the_value_infinite() -> None:
    P = np.array([[1.0, 5e-324], [1.0, 0.0], [1.0, 0.0]])
    assert cmi(P, np.zeros(3, np.int64), 2).plug_in[0] == pytest.approx(0.0, abs=1e-14)


@pytest.mark.parametrize("T", [0.0, -1.0, math.inf, math.nan, 1e-9])
def test_a_temperature_that_is_none_is_refused(T: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        curve(np.zeros((2, 2)), np.zeros(2, np.int64), 2, [1.0, T])


@pytest.mark.parametrize("row", [[np.nan, 0.0], [-np.inf, -np.inf], [np.inf, 0.0]])
def test_rows_without_a_distribution_are_refused(row: list[float]) -> None:
    with pytest.raises(ValueError, match="finite log-probability"):
        curve(np.array([[0.0, 0.0], row]), np.zeros(2, np.int64), 2)


def test_wrong_inputs_are_refused() -> None:
    P, y = np.full((4, 2), 0.5), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="3 classes"):
        curve(P, y, 3)
    with pytest.raises(ValueError, match="5 labels"):
        curve(P, np.zeros(5, np.int64), 2)
    with pytest.raises(ValueError, match="labels must lie"):
        curve(P, np.array([0, 1, 0, 2]), 2)
    with pytest.raises(ValueError, match="0 labels"):
        curve(P[:0], y[:0], 2)


def test_the_peak_is_the_largest_corrected_value_and_moves_with_the_scale_of_the_logits() -> None:
    log_p, y = sample(12, [60, 80, 55], scale=1.0)
    log_p[np.arange(len(y)), y] += 4
    found = curve(log_p, y, 3)
    top = int(np.argmax(found.cmi))
    assert 0 < top < len(TEMPERATURES) - 3
    assert (found.peak, found.peak_temperature) == (found.cmi[top], TEMPERATURES[top])
    hotter = curve(2 * log_p, y, 3)
    assert hotter.peak_temperature == pytest.approx(2 * found.peak_temperature)
    assert hotter.peak == pytest.approx(found.peak)


def test_a_single_class_has_no_separation_and_no_normalised_value() -> None:
    log_p = np.random.default_rng(13).standard_normal((300, 40))
    found = curve(log_p, np.full(300, 7), 40)
    assert not found.gamma.any()
    assert np.isnan(found.ncmi).all()


def test_the_default_temperatures_are_a_geometric_grid_through_one() -> None:
    assert (TEMPERATURES[0], TEMPERATURES[4], TEMPERATURES[-1], len(TEMPERATURES)) == (0.25, 1.0, 32.0, 15)
    assert np.diff(np.log(TEMPERATURES)) == pytest.approx(math.log(2) / 2)
