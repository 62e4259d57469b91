"""The joint power that a plan tells is that of the rules, over all attacks."""

import math

import numpy as np
import pytest

from audit.statistics.compare import Margin
from audit.statistics.joint import COMMON_IMAGES, COMMON_SEEDS, joint_power, words
from audit.statistics.power import POWER, Scatter, power
from audit.statistics.sequential import Looks, schedule
from audit.statistics.verdict import DELTA, Finding, rule, undecided

SCATTER = Scatter(2e-5, 0.015, 0.165, "these tests")
IMAGES = 6_200


def ruled(truth: np.ndarray, delta: float, seeds: tuple[int, ...], rng: np.random.Generator) -> str:
    """Simulate one audit by the rules themselves, with margins as normal effects make them."""
    K, most, r = len(truth), seeds[-1], SCATTER.interaction

    def common(n: int, share: float) -> np.ndarray:
        return math.sqrt(share) * rng.standard_normal((1, n)) + math.sqrt(1 - share) * rng.standard_normal((K, n))

    rows = truth[:, None] + math.sqrt(SCATTER.seeds + r / IMAGES) * common(most, COMMON_SEEDS)
    rows = rows + math.sqrt(SCATTER.images / IMAGES) * common(1, COMMON_IMAGES)

    def margin(k: int, s: int) -> Margin:
        return Margin(
            mean=float(rows[k, :s].mean()),
            seeds=s,
            images=IMAGES,
            discordant=math.inf,
            between_seeds=IMAGES * float(rows[k, :s].var(ddof=1)),
            between_images=r + s * SCATTER.images,
            residual=r,
        )

    taken: list[list[Margin]] = [[] for _ in range(K)]
    open_ = set(range(K))
    for s in seeds:
        for k in open_:
            taken[k].append(margin(k, s))
        found = [
            Finding(attack=str(k), status="judged", looks=Looks(tuple(taken[k])), passes=True, listed=True)
            for k in range(K)
        ]
        open_ = {int(name) for name in undecided(found, delta)}
        if not open_:
            break
    return rule(found, [], complete=True, delta=delta).word


@pytest.mark.parametrize(("margin", "delta"), [pytest.param(0.0, 0.008, marks=pytest.mark.slow), (-0.003, 0.005)])
def test_words_are_said_as_often_as_the_rules_say_them(margin: float, delta: float) -> None:
    truth, seeds, rng = np.full(6, margin), schedule(5, 13), np.random.default_rng(0)
    said = [ruled(truth, delta, seeds, rng) for _ in range(150)]
    told = words(SCATTER, seeds, IMAGES, truth, delta, audits=3_000)
    assert 0.3 < told.undistillable < 0.97, "a share that could be wrong"
    assert np.mean([w == "UNDISTILLABLE" for w in said]) == pytest.approx(told.undistillable, abs=0.1)
    assert np.mean([w == "DISTILLABLE" for w in said]) == pytest.approx(told.distillable, abs=0.06)


def test_the_tolerance_and_the_images_that_are_named_have_the_power() -> None:
    told = joint_power(SCATTER, 5, 20, IMAGES, 25, DELTA)
    assert told.undistillable < 0.3 < POWER
    assert told.delta is not None
    assert told.images is not None
    assert joint_power(SCATTER, 5, 20, IMAGES, 25, told.delta * 1.01).undistillable >= POWER - 0.02
    assert joint_power(SCATTER, 5, 20, IMAGES, 25, told.delta * 0.9).undistillable < POWER
    assert joint_power(SCATTER, 5, 20, round(told.images * 1.1), 25, DELTA).undistillable >= POWER - 0.02


def test_what_is_out_of_reach_is_not_named() -> None:
    wild = Scatter(0.01, 1.0, 1.0, "")
    told = joint_power(wild, 2, 2, 300, 3, DELTA)
    assert (told.delta, told.images) == (None, None)


def test_an_audit_that_rewards_hiding_says_so_at_full_effort_at_a_stated_tolerance() -> None:
    """25 attacks that gain nothing: nine audits of ten at a tolerance of a point, and few at half a point."""
    nothing, seeds = np.zeros(25), schedule(5, 20)
    assert words(SCATTER, seeds, IMAGES, nothing, 0.01).undistillable > POWER
    assert words(SCATTER, seeds, IMAGES, nothing, DELTA).undistillable < 0.3


@pytest.mark.parametrize("others", [0.0, -0.01])
@pytest.mark.parametrize("delta", [0.005, 0.01])
def test_one_attack_that_gains_the_tolerance_is_rarely_missed(others: float, delta: float) -> None:
    truth = np.full(25, others)
    truth[0] = delta
    assert words(SCATTER, schedule(5, 20), IMAGES, truth, delta, audits=4_000).undistillable < 0.055


def test_a_wider_tolerance_rules_out_larger_margins() -> None:
    half, whole = (power(SCATTER, 5, 20, IMAGES, 25, delta) for delta in (0.005, 0.01))
    assert whole.gain == half.gain
    assert whole.resistance - half.resistance == pytest.approx(0.005)
