"""The simulations behind docs/statistics.md: their students are what they say, and judge as the audit does."""

import importlib
import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from audit.statistics.compare import Margin, holm, paired
from audit.statistics.verdict import DELTA
from teachers.proportions import wilson

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let modules of benchmarks/ be imported."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return ROOT / "benchmarks"


@pytest.fixture
def scatter(runner: Path) -> ModuleType:
    return importlib.import_module("scatter")


@pytest.fixture
def judging(runner: Path) -> ModuleType:
    return importlib.import_module("judging")


@pytest.fixture
def null(runner: Path) -> ModuleType:
    return importlib.import_module("null")


@pytest.fixture
def groups(runner: Path) -> ModuleType:
    return importlib.import_module("groups")


DESIGN = {"seeds": 4, "images": 400, "accuracy": 0.9, "seed_points": 1.0, "image_sd": 0.5, "noise_sd": 0.4}


def test_simulated_students_have_the_accuracy_and_the_scatter_that_they_say(scatter: ModuleType) -> None:
    design = scatter.Design(**DESIGN, control_seeds=3, control_share=0.5)
    rng = np.random.default_rng(0)
    audits = [scatter.draw(design, rng) for _ in range(400)]
    knockoffs = np.array([students.knockoffs[0].mean() for students in audits])
    for gain in (0.0, DELTA, 0.02):
        control = np.array([students.control(gain).mean() for students in audits])
        for accuracies, truth in ((knockoffs, 0.9), (control, 0.9 - gain)):
            assert abs(accuracies.mean() - truth) < 4 * accuracies.std() / math.sqrt(len(accuracies))
    many = scatter.draw(scatter.Design(**{**DESIGN, "seeds": 400, "images": 4000}, control_seeds=400), rng)
    assert many.knockoffs[0].mean(axis=1).std() == pytest.approx(0.01, rel=0.15)


def test_students_of_one_seed_share_as_much_as_the_design_says(scatter: ModuleType) -> None:
    many = {**DESIGN, "seeds": 300, "images": 4000, "seed_points": 2.0}
    for shared in (0.0, 0.7):
        students = scatter.draw(scatter.Design(**many, control_seeds=300, shared=shared), np.random.default_rng(1))
        a, b = students.knockoffs[0].mean(axis=1), students.control().mean(axis=1)
        assert np.corrcoef(a, b)[0, 1] == pytest.approx(shared, abs=0.17)


def test_simulated_verdicts_are_those_of_holm_and_of_the_bounds(scatter: ModuleType, judging: ModuleType) -> None:
    rng = np.random.default_rng(2)
    design = scatter.Design(**DESIGN, control_seeds=4)
    words = []
    for _ in range(30):
        students = scatter.draw(design, rng)
        control = students.control(0.03)
        margins = [paired(knockoff, control) for knockoff in students.knockoffs]
        words.append(judging.distillable(margins, 0.05))
        assert words[-1] == (min(holm([m.p_above() for m in margins])) < 0.05)
    assert 0 < sum(words) < len(words)


@pytest.mark.parametrize(
    ("mean", "spread", "discordant", "passes"),
    [
        (0.0, 1e-3, 50, True),
        (0.0, 1e-3, 29, False),  # too few images tell
        (0.004, 1e-3, 50, False),  # may gain more than δ
        (0.003, 1e-4, 50, False),  # surely gains a little
        (0.0025, 8e-4, 50, True),  # no more than the luck of the best of eight
        (-0.02, 1e-2, 50, True),
    ],
)
def test_an_attack_lets_undistillable_pass_below_delta_and_not_above_zero(
    judging: ModuleType, mean: float, spread: float, discordant: float, passes: bool
) -> None:
    square = 4 * 1000 * spread**2
    squares = {"between_seeds": square, "between_images": square / 9, "residual": square / 10}
    margin = Margin(mean=mean, seeds=4, images=1000, discordant=discordant, **squares)
    assert judging.passes(margin, 0.05, attacks=8) == passes


def test_the_bootstrap_over_images_is_as_wide_as_its_normal_approximation(runner: Path, scatter: ModuleType) -> None:
    peers = importlib.import_module("peers")
    rng = np.random.default_rng(3)
    students = scatter.draw(scatter.Design(**DESIGN, control_seeds=4), rng)
    knockoff, control = students.knockoffs[0], students.control(0.02)
    d = knockoff.mean(axis=0) - control.mean(axis=0)  # (N,)
    resampled = d[rng.integers(len(d), size=(20_000, len(d)))].mean(axis=1)
    low, high = np.quantile(resampled, (0.025, 0.975))
    m = paired(knockoff, control)
    assert peers.bootstrap_over_images(m, 0.025) == pytest.approx((high - low) / 2, rel=0.03)


def test_a_design_is_simulated_and_told(runner: Path) -> None:
    coverage = importlib.import_module("interval_coverage")
    for design in (next(coverage.designs()), next(coverage.unequal())):
        row = coverage.simulate(design, 3, 0)
        assert 0.5 <= row.coverage.mean <= 1
        assert str(design.images) in str(row)
        assert f"{design.seeds:2}/{design.control_seeds:2}" in coverage.summary([row])


def test_errors_of_null_audits_take_in_the_pool(null: ModuleType) -> None:
    """Of audits that average what they drew, the error is that of a mean of the pool, and of the draws."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal(60)
    drawn = np.zeros((20_000, 60), bool)
    for row in drawn:
        row[rng.permutation(60)[:20]] = True
    audits = drawn @ x / 20
    error = null.share(drawn, audits).error
    assert error == pytest.approx(math.hypot(x.std(ddof=1) / math.sqrt(60), audits.std() / math.sqrt(20_000)), rel=0.1)
    noise = rng.standard_normal(20_000)  # owes nothing to who was drawn
    assert null.share(drawn, noise).error < 0.03


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("seeds", [(4, 4), (12, 12), (4, 12)])
def test_real_students_who_cannot_gain_are_seldom_called_distillable(
    null: ModuleType, seeds: tuple[int, int], again: bool
) -> None:
    pool = null.LSPool.load()
    assert len(pool.correct) >= 200
    found = null.draws(pool.correct, seeds, again=again, audits=250, seed=5)
    word = null.share(found.drawn, found.distillable[0])
    flag, held = (null.share(found.drawn, audits) for audits in (found.flagged, found.covered))
    assert word.mean <= 0.05 + 3 * word.error
    assert flag.mean <= 0.01 + 3 * flag.error
    assert held.mean >= 0.95 - 3 * held.error
    assert 0 < held.mean < 1


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_looks_at_real_students_who_cannot_gain_are_seldom_called_distillable(null: ModuleType, again: bool) -> None:
    pool = null.LSPool.load()
    word, seeds = null.with_looks(pool.correct, again=again, audits=100, seed=5)
    assert word.mean <= 0.05 + 3 * word.error
    assert 5 < seeds <= 20


def test_looks_stop_where_a_word_is_sure(judging: ModuleType) -> None:
    def margin(mean: float, seeds: int) -> Margin:
        squares = {"between_seeds": 0.2, "between_images": 0.2, "residual": 0.2}
        return Margin(mean=mean, seeds=seeds, images=6_200, discordant=50, **squares)

    assert judging.look_by_look(2, lambda i, seeds: margin((0.05, 0.0)[i], seeds), 5) == ("DISTILLABLE", (5, 5))
    word, taken = judging.look_by_look(2, lambda i, seeds: margin((-0.05, 0.004)[i], seeds), 5, 8)
    assert (word, taken) == ("INCONCLUSIVE", (5, 8))
    assert judging.look_by_look(1, lambda i, seeds: margin(-0.05, seeds), 5) == ("UNDISTILLABLE", (5,))
    assert judging.at_once([margin(-0.05, 9)]) == "UNDISTILLABLE"


@pytest.fixture
def collapses(runner: Path) -> ModuleType:
    return importlib.import_module("collapses")


@pytest.mark.slow
def test_words_stay_true_where_students_collapse_rarely_and_were_false_without_the_rule(collapses: ModuleType) -> None:
    rare = collapses.World("normal", "control", 10, 0.05)
    found = [collapses.chunk(rare, number) for number in range(8)]
    shares = {key: sum(part[key] for part in found) / sum(part["audits"] for part in found) for key in found[0]}
    assert max(shares["undistillable"], shares["distillable"]) < 0.07
    assert shares["plain_undistillable"] > 0.15, "the control that did not collapse looks better than its mean"
    assert shares["aside"] == pytest.approx(0.05, abs=0.015)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["attack", "control"])
def test_simulated_bounds_are_those_of_the_audit(collapses: ModuleType, side: str) -> None:
    """The two ways to simulate, by accuracies and image by image, set aside the same students as often."""
    one, other = (collapses.World(kind, side, 10, 0.2) for kind in ("normal", "accurate"))
    shares = [collapses.chunk(world, 0)["aside"] / collapses.CHUNK for world in (one, other)]
    assert shares == pytest.approx([0.2, 0.2], abs=0.05)
    assert collapses.offset(one) == pytest.approx(0.0, abs=2e-4)
    assert abs(collapses.offset(collapses.World("normal", side, 2, 0.2))) > 0.002, "too small to be seen"


def test_the_tables_of_groups_are_those_of_the_simulation_and_hold_what_they_promise(
    runner: Path, groups: ModuleType
) -> None:
    """Where this fails: python benchmarks/groups.py prints the tables of docs/statistics.md."""
    held = json.loads((runner / "groups.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert groups.table(held) in page
    assert groups.real_table(held["real"]) in page
    for name in groups.SIZES:
        counts = held[name]
        assert counts["audits"] >= 1_000
        for word in "UD":
            assert wilson(counts[f"with: {word}"], counts["audits"])[0] <= 0.05
        for seeds in groups.FIXED:
            assert wilson(counts[f"with: covered, {seeds} seeds"], counts["audits"])[1] >= 0.95
    assert held["20"]["without: U"] / held["20"]["audits"] > 0.15, "without groups the word is false"


def test_an_audit_of_groups_is_simulated_and_counted(groups: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "IMAGES", 400)
    numbers = groups.groups_of((1, 3))
    assert numbers.shape == (400,)
    assert np.bincount(numbers).tolist() == [1, 3] * 100
    found = groups.audit(numbers, np.random.default_rng(0))
    assert found["audits"] == 1
    assert found["with: half width, points"] != found["without: half width, points"] > 0
    again = groups.audit(numbers, np.random.default_rng(0))
    assert again == found


def test_models_share_what_their_groups_share(groups: ModuleType) -> None:
    numbers = groups.groups_of((20,))
    models = groups.draw(numbers, np.random.default_rng(0))
    means = [m.mean(0) for m in models[:2]]
    inside = [np.array([m[numbers == g].var() for g in range(20)]).mean() for m in means]
    assert all(v < 0.05 * m.var() for v, m in zip(inside, means, strict=True))
    assert np.corrcoef(*means)[0, 1] == pytest.approx(1 / (1 + 0.4**2 + 0.5**2 / 2 / groups.HORIZON), abs=0.06)
