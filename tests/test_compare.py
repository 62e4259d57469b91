import math

import numpy as np
import pytest
from drawn_students import students
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.special import stdtr, stdtrit

from audit.statistics.compare import Margin, above, holm, over_images, over_teachers, paired, scatter
from teachers.proportions import mcnemar, wilson


def random_margin(seed: int, seeds: int = 4, images: int = 60) -> Margin:
    rng = np.random.default_rng(seed)
    knockoff, control = students(rng, seeds, images, [0.7, 0.6], seed_sd=0.2, image_sd=0.5)
    return paired(knockoff, control)


def margin(between_seeds: float, between_images: float, residual: float, seeds: int = 5, images: int = 400) -> Margin:
    mean_squares = {"between_seeds": between_seeds, "between_images": between_images, "residual": residual}
    return Margin(mean=0.01, seeds=seeds, images=images, discordant=50.0, **mean_squares)


def test_mean_squares_agree_with_statsmodels() -> None:
    pandas = pytest.importorskip("pandas")
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    knockoff, control = students(np.random.default_rng(1), 4, 25, [0.7, 0.5], seed_sd=0.3, image_sd=0.5)
    d = knockoff.astype(float) - control.astype(float)
    s, i = np.indices(d.shape)
    frame = pandas.DataFrame({"d": d.ravel(), "s": s.ravel(), "i": i.ravel()})
    theirs = anova_lm(ols("d ~ C(s) + C(i)", frame).fit())["mean_sq"]
    ours = paired(knockoff, control)
    assert [ours.between_seeds, ours.between_images, ours.residual] == pytest.approx(list(theirs))
    assert ours.mean == pytest.approx(d.mean())
    assert ours.discordant == np.count_nonzero(d) / 4
    assert type(ours.discordant) is type(ours.mean) is type(ours.residual) is float


def test_standard_error_is_the_anova_one_when_no_component_is_negative() -> None:
    m = margin(0.3, 0.2, 0.02)
    assert m.seed_variance == pytest.approx(0.28 / 400)
    assert m.image_variance == pytest.approx(0.18 / 5)
    classic = (m.between_seeds + m.between_images - m.residual) / (m.seeds * m.images)
    assert m.se == pytest.approx(math.sqrt(classic))
    parts = m.seed_variance / m.seeds + m.image_variance / m.images + m.residual / (m.seeds * m.images)
    assert m.se == pytest.approx(math.sqrt(parts))


def test_with_seed_chance_alone_the_interval_is_the_t_interval_over_seeds() -> None:
    m = margin(0.3, 0.02, 0.02)
    half = float(stdtrit(4, 0.975)) * math.sqrt(0.3 / 2000)
    assert m.interval(0.95) == pytest.approx((0.01 - half, 0.01 + half))
    assert m.p_above() == pytest.approx(1 - float(stdtr(4, 0.01 / math.sqrt(0.3 / 2000))))
    assert m.df == pytest.approx(4)


def test_with_image_chance_alone_the_interval_is_the_t_interval_over_images() -> None:
    m = margin(1e-9, 0.3, 1e-9)
    half = float(stdtrit(399, 0.975)) * math.sqrt(0.3 / 2000)
    assert m.interval(0.95) == pytest.approx((0.01 - half, 0.01 + half), rel=1e-6)
    assert m.df == pytest.approx(399, rel=1e-6)


def test_seeds_that_agree_by_luck_do_not_shorten_the_interval_below_what_noise_leaves() -> None:
    lucky, ordinary = margin(0.0, 0.02, 0.02), margin(0.009, 0.02, 0.02)
    assert lucky.interval() == ordinary.interval()
    assert lucky.upper(0.95) - lucky.mean == pytest.approx(float(stdtrit(399, 0.95)) * math.sqrt(0.02 / 2000))


def test_a_two_sided_interval_is_two_one_sided_bounds() -> None:
    m = random_margin(3)
    assert m.interval(0.9) == pytest.approx((m.lower(0.95), m.upper(0.95)))
    assert m.upper(0.95) - m.mean == pytest.approx(m.mean - m.lower(0.95))
    assert m.lower(0.99) < m.lower(0.95) < m.mean


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 12), st.floats(1e-6, 0.49), st.floats(-0.3, 0.3))
def test_p_is_below_alpha_just_where_the_lower_bound_is_above_the_value(
    seed: int, seeds: int, alpha: float, value: float
) -> None:
    m = random_margin(seed, seeds)
    p = m.p_above(value)
    if abs(p - alpha) > 1e-9:
        assert (p < alpha) == (m.lower(1 - alpha) > value)


def test_p_of_the_lower_bound_itself_is_alpha() -> None:
    m = random_margin(4).anywhere()
    for alpha in (0.3, 0.05, 0.05 / 8, 1e-6):
        assert m.p_above(m.lower(1 - alpha)) == pytest.approx(alpha, rel=1e-6)
        assert m.p_above(m.upper(1 - alpha)) == pytest.approx(1 - alpha, rel=1e-6)
    assert m.p_above(m.mean) == 0.5
    assert m.p_equal() == pytest.approx(2 * min(m.p_above(), 1 - m.p_above()))


def test_a_huge_margin_has_a_tiny_p_that_is_not_zero() -> None:
    p = margin(1e-6, 1e-6, 1e-6, seeds=20).p_above(-0.9)
    assert 0 < p < 1e-20


def test_swapping_the_students_mirrors_the_margin() -> None:
    knockoff, control = students(np.random.default_rng(5), 3, 50, [0.7, 0.6], seed_sd=0.2, image_sd=0.5)
    forth, back = paired(knockoff, control), paired(control, knockoff)
    assert forth.mean == -back.mean
    assert forth.interval() == pytest.approx(tuple(-bound for bound in reversed(back.interval())))
    assert forth.p_above() == pytest.approx(1 - back.p_above())
    assert forth.p_equal() == pytest.approx(back.p_equal())


def test_students_that_agree_everywhere_are_degenerate_and_prove_nothing() -> None:
    control = np.random.default_rng(6).random((3, 40)) < 0.7
    m = paired(control.copy(), control)
    assert m.degenerate
    assert (m.mean, m.se, m.discordant, m.df) == (0.0, 0.0, 0.0, 0.0)
    assert m.interval() == (0.0, 0.0)
    assert (m.lower(), m.upper(), m.p_above(), m.p_equal()) == (0.0, 0.0, 1.0, 1.0)


def test_a_constant_difference_is_degenerate() -> None:
    m = paired(np.ones((3, 40), bool), np.zeros((3, 40), bool))
    assert m.degenerate
    assert (m.mean, m.se, m.p_above(), m.p_above(2.0)) == (1.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize("shape", [(1, 40), (3, 1), (1, 1)])
def test_one_seed_or_one_image_allows_no_verdict(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    control = rng.random(shape) < 0.2
    m = paired(rng.random(shape) < 0.9, control)
    assert m.degenerate
    assert m.interval() == (m.lower(), m.upper()) == (-control.mean(), 1 - control.mean())
    assert m.se == math.inf
    assert m.anywhere().interval() == (-math.inf, math.inf)
    assert (m.p_above(), m.p_above(-5.0), m.p_equal(), m.df) == (1.0, 1.0, 1.0, 0.0)
    assert math.isnan(m.seed_variance)
    assert math.isnan(m.image_variance)


def test_seeds_that_copy_one_another_count_as_one_seed() -> None:
    rng = np.random.default_rng(8)
    knockoff, control = (np.repeat(rng.random((1, 40)) < a, 5, axis=0) for a in (0.9, 0.3))
    m = paired(knockoff, control)
    assert m.degenerate
    assert (m.lower(), m.upper(), m.p_above()) == (-control.mean(), 1 - control.mean(), 1.0)


def test_no_bound_lies_where_no_margin_can_be() -> None:
    """Two seeds give half widths of hundreds of points."""
    rng = np.random.default_rng(12)
    knockoff, control = (rng.random((2, 50)) < a for a in ([[0.9], [0.6]], [[0.5], [0.7]]))
    m, accuracy = paired(knockoff, control), control.mean()
    assert m.anywhere().lower() < -1
    assert m.anywhere().upper() > 1
    assert m.interval() == (m.lower(), m.upper()) == (-accuracy, 1 - accuracy)
    constant = above(knockoff, 0.25)
    assert -0.25 <= constant.interval()[0] <= constant.interval()[1] <= 0.75
    assert (m.p_above(), m.se) == (m.anywhere().p_above(), m.anywhere().se)


def test_students_of_different_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 40\).*\(3, 41\)"):
        paired(np.ones((3, 40), bool), np.ones((3, 41), bool))
    with pytest.raises(ValueError, match=r"\(40,\).*\(41,\)"):
        mcnemar(np.ones(40, bool), np.ones(41, bool))


@pytest.mark.parametrize("wrong", [np.ones((2, 3)), np.ones(3, bool), np.ones((2, 0), bool)])
def test_anything_but_booleans_by_seed_and_image_is_refused(wrong: NDArray[np.bool_]) -> None:
    with pytest.raises(ValueError, match="booleans"):
        paired(wrong, wrong)
    with pytest.raises(ValueError, match="booleans"):
        above(wrong, 0.5)


@pytest.mark.parametrize("level", [0.0, 0.4, 0.5, 1.0, 95.0])
def test_a_level_that_is_no_confidence_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        random_margin(9).lower(level)


def test_a_student_against_a_constant_keeps_its_variance_whatever_the_constant() -> None:
    (student,) = students(np.random.default_rng(10), 4, 80, [0.7], seed_sd=0.2, image_sd=0.5)
    nothing = np.zeros_like(student)
    low, high, against_nothing = above(student, 0.1), above(student, 0.6), paired(student, nothing)
    assert low.mean == pytest.approx(student.mean() - 0.1)
    assert low.se == high.se == against_nothing.se
    assert low.p_above() == pytest.approx(against_nothing.p_above(0.1))
    assert low.discordant == pytest.approx(80 * (1 - student.mean()))


def coverage(seeds: int, images: int, seed_sd: float, image_sd: float, audits: int = 500) -> float:
    rng = np.random.default_rng([11, seeds, images])
    accuracies = [0.75, 0.7]
    hits = 0
    for _ in range(audits):
        m = paired(*students(rng, seeds, images, accuracies, seed_sd=seed_sd, image_sd=image_sd))
        low, high = m.interval(0.95)
        hits += low <= 0.05 <= high
    return hits / audits


@pytest.mark.parametrize(("seed_sd", "image_sd"), [(0.1, 0.0), (0.02, 1.0), (0.1, 0.7)])
def test_intervals_hold_the_true_margin_over_fresh_seeds_and_images(seed_sd: float, image_sd: float) -> None:
    assert 0.925 <= coverage(10, 400, seed_sd, image_sd) <= 0.985
    assert coverage(3, 400, seed_sd, image_sd) >= 0.925


def test_no_difference_is_seldom_called_distillable() -> None:
    rng = np.random.default_rng(12)
    audits, false = 250, 0
    for _ in range(audits):
        control, *attacks = students(rng, 5, 300, [0.7] * 9, seed_sd=0.1, image_sd=0.3)
        false += min(holm([paired(knockoff, control).p_above() for knockoff in attacks])) < 0.05
    assert 0 < false / audits <= 0.07


def test_scatter_is_the_relative_standard_deviation_of_errors() -> None:
    errors = np.array([3, 5, 10])
    correct = np.arange(40) >= errors[:, None]
    assert scatter(correct) == pytest.approx(errors.std(ddof=1) / errors.mean())
    assert scatter(correct[:1]) == scatter(np.ones((3, 40), bool)) == 0.0


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 5), (5, 0), (7, 7), (30, 12), (300, 260)])
def test_mcnemar_agrees_with_statsmodels_and_the_binomial_test(gained: int, lost: int) -> None:
    from scipy.stats import binomtest
    from statsmodels.stats.contingency_tables import mcnemar as theirs

    better = np.repeat([True, False, True, False], [gained, lost, 50, 9])
    other = np.repeat([False, True, True, False], [gained, lost, 50, 9])
    p, back = mcnemar(better, other), mcnemar(other, better)
    assert min(1, 2 * min(p, back)) == pytest.approx(theirs([[50, gained], [lost, 9]], exact=True).pvalue)
    if gained + lost:
        assert p == pytest.approx(binomtest(gained, gained + lost, alternative="greater").pvalue)
        assert back == pytest.approx(binomtest(lost, gained + lost, alternative="greater").pvalue)


@pytest.mark.parametrize("attacks", [1, 2, 8, 30])
def test_holm_agrees_with_statsmodels(attacks: int) -> None:
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng([13, attacks])
    for _ in range(3):
        p = np.round(rng.random(attacks) ** 4, 2)  # with ties and zeros
        assert holm(list(p)) == pytest.approx(list(multipletests(p, method="holm")[1]), abs=1e-12)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.9]) == pytest.approx([0.04, 0.09, 0.09, 0.9])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (470, 500), (1, 1)])
def test_wilson_agrees_with_statsmodels(successes: int, n: int) -> None:
    from statsmodels.stats.proportion import proportion_confint

    for level in (0.9, 0.95, 0.99):
        theirs = proportion_confint(successes, n, alpha=1 - level, method="wilson")
        assert wilson(successes, n, level) == pytest.approx(theirs, abs=1e-12)


def test_wilson_of_nothing_is_everything_and_of_nonsense_is_refused() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="11 successes of 10"):
        wilson(11, 10)


def test_over_teachers_is_the_three_way_analysis_of_variance() -> None:
    rng = np.random.default_rng(0)
    T, S, N = 3, 4, 50
    knockoff, control = rng.random((T, S, N)) < 0.7, rng.random((S, N)) < 0.6
    d = knockoff.astype(float) - control
    m = d.mean()
    teachers = S * N * sum((d[t].mean() - m) ** 2 for t in range(T)) / (T - 1)
    students = T * N * sum((d[:, s].mean() - m) ** 2 for s in range(S)) / (S - 1)
    both = (
        N
        * sum((d[t, s].mean() - d[t].mean() - d[:, s].mean() + m) ** 2 for t in range(T) for s in range(S))
        / ((T - 1) * (S - 1))
    )
    found = over_teachers(knockoff, control)
    assert found.mean == pytest.approx(m)
    # `between_seeds` is per score of a teacher's mean over students, which has a variance S times smaller.
    assert found.between_seeds == pytest.approx(teachers / S)
    assert found.crossed == pytest.approx(max(students - both, 0) / (T * S * N))
    low, high = found.interval()
    assert low < m < high


def test_over_teachers_pairs_with_one_set_of_others_as_with_the_same_set_for_every_teacher() -> None:
    rng = np.random.default_rng(1)
    knockoff, control = rng.random((3, 4, 50)) < 0.7, rng.random((4, 50)) < 0.6
    assert over_teachers(knockoff, control) == over_teachers(knockoff, np.stack([control] * 3))
    with pytest.raises(ValueError, match="as many as control"):
        over_teachers(knockoff, np.stack([control] * 2))


def test_over_teachers_with_one_student_seed_that_tells_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two teachers"):
        over_teachers(np.ones((3, 1, 5), bool), np.ones((1, 5), bool))


@pytest.mark.parametrize(("teacher", "student"), [(0.03, 0.0), (0.0, 0.03), (0.02, 0.02)])
def test_the_interval_over_teachers_covers(teacher: float, student: float) -> None:
    """Chance of teachers, students and images; 95 % nominal, 400 designs: three standard errors are 3.3 points."""
    rng = np.random.default_rng(1)
    T, S, N, covered = 3, 4, 400, 0
    for _ in range(400):
        hard = rng.normal(0, 0.15, N)
        shared, own = rng.normal(0, student, (1, S, 1)), rng.normal(0, teacher, (T, 1, 1))
        knockoff = rng.random((T, S, N)) < 0.7 + shared + own + hard
        control = rng.random((S, N)) < 0.65 + hard
        low, high = over_teachers(knockoff, control).interval()
        covered += low <= 0.05 <= high
    assert covered / 400 >= 0.95 - 0.033


def test_a_mean_over_images_is_bounded_by_students_t() -> None:
    scores = np.random.default_rng(0).integers(-2, 3, (3, 400))
    mean, lower = over_images(scores)
    by_image = scores.mean(0)
    assert mean == pytest.approx(by_image.mean())
    assert lower == pytest.approx(stats.t.interval(0.9, 399, by_image.mean(), stats.sem(by_image))[0])
