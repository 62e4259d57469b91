"""The power that a plan tells is the power that audits have."""

import math

import numpy as np
import pytest
from sample_record import sample_record

from audit.statistics.compare import Margin
from audit.statistics.power import POWER, Scatter, detectable, of_margins, of_record, power, reference, seeds_for
from audit.statistics.sequential import HORIZON, Looks, schedule
from audit.statistics.verdict import ALPHA, DELTA
from teachers.errors import UsageError

SCATTER = Scatter(2e-5, 0.015, 0.165, "these tests")
IMAGES = 6_200


def drawn(seeds: tuple[int, ...], truth: float, rng: np.random.Generator) -> Looks:
    """Draw one comparison at every look, with effects and mean squares as normal ones are distributed."""
    s, i, r = SCATTER.seeds, SCATTER.images, SCATTER.interaction
    rows = truth + math.sqrt(i / IMAGES) * rng.standard_normal()
    rows = rows + math.sqrt(s + r / IMAGES) * rng.standard_normal(seeds[-1])
    return Looks(
        tuple(
            Margin(
                mean=float(rows[:n].mean()),
                seeds=n,
                images=IMAGES,
                discordant=math.inf,
                between_seeds=IMAGES * float(rows[:n].var(ddof=1)),
                between_images=(r + n * i) * rng.chisquare(IMAGES - 1) / (IMAGES - 1),
                residual=r,
            )
            for n in seeds
        )
    )


@pytest.mark.parametrize("seeds", [4, 8, 20])
def test_a_detectable_margin_is_found_four_times_in_five(seeds: int) -> None:
    rng, margin = np.random.default_rng(seeds), SCATTER.margin(seeds, IMAGES)
    least = detectable(margin)
    found = [drawn((seeds,), least, rng).last.lower(1 - ALPHA) > 0 for _ in range(3_000)]
    assert np.mean(found) == pytest.approx(POWER, abs=0.04)


@pytest.mark.parametrize(("first", "most", "attacks"), [(5, 10, 29), (5, 20, 8), (4, 4, 1)])
def test_looks_find_what_the_plan_says_and_clear_what_it_says(first: int, most: int, attacks: int) -> None:
    """The bounds of looks before the last are worth a little more power, never less."""
    rng, numbers = np.random.default_rng(most), schedule(first, most)
    told = power(SCATTER, first, most, IMAGES, attacks)
    gains = [drawn(numbers, told.gain, rng).lower(ALPHA / attacks) > 0 for _ in range(400)]
    cleared = [drawn(numbers, told.resistance, rng).upper(ALPHA) < DELTA for _ in range(400)]
    assert POWER - 0.06 < np.mean(gains) < 0.95
    assert POWER - 0.06 < np.mean(cleared) < 0.95


def test_more_seeds_images_and_fewer_attacks_see_more() -> None:
    told = power(SCATTER, 5, 10, IMAGES, 29)
    better = power(SCATTER, 5, 20, IMAGES, 29), power(SCATTER, 5, 10, 50_000, 29), power(SCATTER, 5, 10, IMAGES, 1)
    assert all(p.gain < told.gain for p in better)
    assert all(p.resistance >= told.resistance for p in better)


def test_the_seeds_of_a_fixed_design_are_the_fewest_that_have_the_power() -> None:
    for scatter in (SCATTER, Scatter(5e-6, 1e-3, 0.1, ""), Scatter(1e-3, 1.0, 1.0, "")):
        margin = scatter.margin(5, IMAGES)
        seeds = seeds_for(margin)
        assert seeds == HORIZON or detectable(scatter.margin(seeds, IMAGES)) <= DELTA
        assert seeds == 3 or detectable(scatter.margin(seeds - 1, IMAGES)) > DELTA


def test_components_are_those_of_the_margins_they_come_from() -> None:
    one, other = SCATTER.margin(4, 500), Scatter(0.0, 0.005, 0.1, "").margin(7, 300)
    found = of_margins([one, other], "both")
    assert (found.seeds, found.images, found.interaction) == pytest.approx((1e-5, 0.01, 0.1325))
    nothing = Margin(mean=0, seeds=1, images=9, discordant=0, between_seeds=math.nan, between_images=1, residual=1)
    assert of_margins([one, nothing], "").images == pytest.approx(0.015)
    assert detectable(nothing) == math.inf
    with pytest.raises(UsageError, match="--like"):
        of_record(sample_record())  # it has no students


def test_margins_of_the_reference_bag_say_how_margins_scatter() -> None:
    bag = reference()
    assert "bag-2" in bag.source
    assert 0.001 < math.sqrt(bag.seeds) < 0.01
    assert 0.05 < bag.interaction < 0.3
