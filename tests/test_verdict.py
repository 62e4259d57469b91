"""The rules of the verdict, on findings made by hand."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.statistics.compare import Margin, paired
from audit.statistics.sequential import Looks, once
from audit.statistics.verdict import DELTA, HORIZON, Finding, adjust, enough, gains, rule, undecided
from reports.record import Flag


def margin(mean: float, spread: float = 0.002, seeds: int = 20, images: int = 6_000) -> Margin:
    """Return a margin of about `mean`, with many discordant images and a standard error of about `spread`."""
    rng = np.random.default_rng(0)
    shift = rng.normal(0, spread * seeds**0.5, seeds)
    shift += mean - shift.mean()
    knockoff = np.zeros((seeds, images), bool)
    control = np.zeros((seeds, images), bool)
    for s in range(seeds):
        up = round((0.05 + shift[s] / 2) * images)
        down = round((0.05 - shift[s] / 2) * images)
        knockoff[s, rng.permutation(images)[:up]] = True
        control[s, rng.permutation(images)[:down]] = True
    return paired(knockoff, control)


def judged(name: str, mean: float, *, passes: bool = True, spread: float = 0.0005) -> Finding:
    return Finding(attack=name, status="judged", looks=once(margin(mean, spread)), passes=passes)


def flag(caps: str) -> Flag:
    return Flag(id="x", found="r", why="w", do="d", caps=caps)  # type: ignore[arg-type]


GAIN, NONE, WIDE = judged("gain", 0.03), judged("none", -0.01), judged("wide", 0.0, spread=0.02)


def test_one_attack_that_gains_is_enough_for_distillable() -> None:
    ruling = rule([NONE, GAIN], [], complete=True)
    assert ruling.word == "DISTILLABLE"
    assert "gain gains +" in ruling.reasons[0]


def test_distillable_holds_though_the_attack_does_not_bite_or_the_suite_is_partial() -> None:
    assert rule([judged("gain", 0.03, passes=False)], [], complete=False).word == "DISTILLABLE"


def test_no_gain_with_narrow_intervals_is_undistillable() -> None:
    ruling = rule([NONE, judged("zero", -0.004)], [], complete=True)
    assert ruling.word == "UNDISTILLABLE"
    assert "below the tolerance" in ruling.reasons[0]


@pytest.mark.parametrize(
    ("findings", "complete", "reason"),
    [
        ([NONE], False, "not every attack of the suite was requested"),
        ([NONE, Finding(attack="bad", status="failed")], True, "bad failed"),
        ([judged("none", -0.01, passes=False)], True, "none of the judged attacks passes the positive control"),
        ([NONE, WIDE], True, "may gain up to"),
        ([Finding(attack="same", status="identical")], True, "none of the judged attacks passes the positive control"),
        (
            [Finding(attack="hidden", status="not applicable")],
            True,
            "none of the judged attacks passes the positive control",
        ),
        ([], True, "none of the judged attacks passes the positive control"),
    ],
)
def test_whatever_is_missing_is_inconclusive_with_its_reason(
    findings: list[Finding], complete: bool, reason: str
) -> None:
    ruling = rule(findings, [], complete=complete)
    assert ruling.word == "INCONCLUSIVE"
    assert any(reason in r for r in ruling.reasons)
    assert ruling.settle


def test_a_flag_caps_the_word() -> None:
    assert rule([GAIN], [flag("inconclusive")], complete=True).word == "INCONCLUSIVE"
    assert rule([GAIN], [flag("undistillable")], complete=True).word == "DISTILLABLE"
    assert rule([NONE], [flag("undistillable")], complete=True).word == "INCONCLUSIVE"
    assert rule([NONE], [flag("nothing")], complete=True).word == "UNDISTILLABLE"


def test_identical_and_inapplicable_attacks_neither_help_nor_hinder() -> None:
    others = [Finding(attack="same", status="identical"), Finding(attack="hidden", status="not applicable")]
    assert rule([NONE, *others], [], complete=True).word == "UNDISTILLABLE"


def test_few_discordant_images_support_neither_word() -> None:
    few = np.zeros((20, 6_000), bool)
    few[:, :20] = True
    some = few.copy()
    some[::2, 0] = False
    close = Finding(attack="close", status="judged", looks=once(paired(few, np.zeros_like(few))), passes=True)
    tied = Finding(attack="tied", status="judged", looks=once(paired(few, some)), passes=True)
    for finding in (close, tied):
        ruling = rule([NONE, finding], [], complete=True)
        assert ruling.word == "INCONCLUSIVE"
        assert any("discordant" in r for r in ruling.reasons)


def test_an_attack_that_is_its_control_gains_nothing_and_is_evidence() -> None:
    """Its best setting learns from the labels alone: there is no discordant image, and no doubt either."""
    right = np.zeros((5, 600), bool)
    alone = Finding(attack="alone", status="judged", looks=once(paired(right, right)), passes=True, same=True)
    for findings in ([alone], [NONE, alone]):
        ruling = rule(findings, [], complete=True)
        assert ruling.word == "UNDISTILLABLE"
        assert ruling.reasons[-1] == "best at the labels alone, and so without any gain: alone"
        assert undecided(findings) == []
    assert rule([GAIN, alone], [], complete=True).word == "DISTILLABLE"
    assert rule([WIDE, alone], [], complete=True).word == "INCONCLUSIVE"
    for doubtful in (replace(alone, same=False), replace(alone, passes=False), replace(alone, mis_tuned=True)):
        assert rule([doubtful], [], complete=True).word == "INCONCLUSIVE"


def test_adding_an_attack_never_turns_a_verdict_into_undistillable() -> None:
    pool = [GAIN, NONE, WIDE, judged("dull", -0.2, passes=False), Finding(attack="bad", status="failed")]
    for size in range(len(pool)):
        for some in itertools.combinations(pool, size):
            before = rule(some, [], complete=False).word
            for extra in pool:
                after = rule([*some, extra], [], complete=False).word
                assert not (before != "UNDISTILLABLE" and after == "UNDISTILLABLE")


def test_the_two_words_never_hold_at_once_even_for_a_tiny_sure_gain() -> None:
    """A gain below the tolerance but surely above zero is no UNDISTILLABLE."""
    tiny = judged("tiny", DELTA / 2, spread=0.0004)
    alone = rule([tiny], [], complete=True)
    assert alone.word == "DISTILLABLE"
    many = rule([tiny, *(judged(f"n{i}", -0.01) for i in range(200))], [], complete=True)
    assert many.word != "UNDISTILLABLE"


def test_a_look_before_the_last_asks_for_more_than_the_only_one() -> None:
    weak = margin(0.0023, spread=0.001, seeds=10)
    assert rule([Finding(attack="weak", status="judged", looks=once(weak))], [], complete=True).word == "DISTILLABLE"
    early = Finding(attack="weak", status="judged", looks=Looks((weak,)))
    assert rule([early], [], complete=True).word == "INCONCLUSIVE"


def test_seeds_are_added_to_what_is_open_until_one_attack_surely_gains() -> None:
    assert undecided([NONE, WIDE]) == ["wide"]
    assert undecided([NONE]) == []
    assert undecided([NONE, WIDE, GAIN]) == []
    assert undecided([WIDE, Finding(attack="bad", status="failed")]) == ["wide"]
    tiny = judged("tiny", DELTA / 2, spread=0.0004)
    assert undecided([tiny, *(judged(f"n{i}", -0.01) for i in range(200))]) == ["tiny"]


@pytest.mark.parametrize("mean", [0.0019, 0.0021, 0.0023, 0.0025, 0.0028, 0.0031])
def test_bounds_and_adjusted_p_agree_on_whether_an_attack_gains(mean: float) -> None:
    looks = Looks((margin(mean, spread=0.001, seeds=10), margin(mean, spread=0.001, seeds=16)))
    findings = [Finding(attack="a", status="judged", looks=looks), NONE]
    assert gains(findings) == (min(adjust(findings).values()) < 0.05)


def test_what_would_settle_it_is_seeds_while_they_shrink_the_error_and_images_after_that() -> None:
    noisy = margin(0.0, spread=0.008, seeds=5)
    seeds = enough(noisy)
    assert 5 < seeds.seeds <= HORIZON
    assert seeds.images == 0
    spread = {"between_seeds": 0.1, "between_images": 0.9, "residual": 0.1}
    few = enough(Margin(mean=0.0, seeds=5, images=1_000, discordant=100, **spread))
    assert few.seeds == HORIZON
    assert few.images > 1_000
    open_ = Finding(attack="noisy", status="judged", looks=once(noisy), passes=True)
    assert f"about {seeds.seeds} seeds" in rule([open_], [], complete=True).settle


def test_the_reason_names_a_bound_that_holds_for_the_attack_that_looks_best() -> None:
    ruling = rule([GAIN, NONE], [], complete=True)
    assert GAIN.looks is not None
    assert f"at least {100 * GAIN.looks.lower(0.025):+.2f} points" in ruling.reasons[0]


def listed(name: str, mean: float, spread: float = 0.0005) -> Finding:
    return Finding(attack=name, status="judged", looks=once(margin(mean, spread)), passes=True, listed=True)


def test_the_lower_bound_of_one_of_many_attacks_stands_in_the_way_only_where_it_is_no_chance() -> None:
    lucky = margin(0.0023, spread=0.001)
    assert lucky.lower(0.95) > 0 > lucky.lower(1 - 0.05 / 25)
    assert lucky.upper(0.95) < 0.01
    alone = Finding(attack="lucky", status="judged", looks=once(lucky), passes=True, listed=True)
    others = [listed(f"n{i}", -0.01) for i in range(24)]
    assert rule([alone, *others], [], complete=True, delta=0.01).word == "UNDISTILLABLE"
    assert undecided([alone, *others], 0.01) == []
    few = rule([alone, *others[:1]], [], complete=True, delta=0.01)
    assert few.word != "UNDISTILLABLE"


POOL = [margin(mean, spread) for mean in (-0.004, 0.0, 0.0018, 0.0023, 0.003, 0.006) for spread in (0.0005, 0.0015)]


@given(
    suite=st.lists(st.sampled_from(range(len(POOL))), min_size=1, max_size=6),
    added=st.lists(st.sampled_from(range(len(POOL))), min_size=1, max_size=6),
    delta=st.sampled_from((0.004, 0.005, 0.01, 0.02)),
)
def test_attacks_that_a_suite_lacks_never_turn_its_verdict_into_undistillable(
    suite: list[int], added: list[int], delta: float
) -> None:
    mine = [
        Finding(attack=f"s{i}", status="judged", looks=once(POOL[k]), passes=True, listed=True)
        for i, k in enumerate(suite)
    ]
    more = [
        Finding(attack=f"a{i}", status="judged", looks=once(POOL[k]), passes=True, listed=False)
        for i, k in enumerate(added)
    ]
    words = [rule([*mine, *more[:n]], [], complete=True, delta=delta).word for n in range(len(more) + 1)]
    first = next((n for n, word in enumerate(words) if word == "UNDISTILLABLE"), None)
    assert first in (None, 0), words


def waiting(name: str) -> Finding:
    return Finding(attack=name, status="planned", listed=True)


def test_an_attack_that_has_not_run_counts_as_p_1_and_forbids_undistillable() -> None:
    left = [waiting(f"w{i}") for i in range(3)]
    near = judged("near", 0.01, spread=0.004)
    assert 0.001 < near.p_gain() < 0.2
    assert adjust([near, *left]) == pytest.approx({"near": 4 * near.p_gain()})
    assert rule([GAIN, *left], [], complete=True).word == "DISTILLABLE"
    held = rule([NONE, *left], [], complete=True)
    assert rule([NONE], [], complete=True).word == "UNDISTILLABLE"
    assert held.word == "INCONCLUSIVE"
    assert "3 of 4 attacks have not run yet" in held.reasons
    assert "goes on" in held.settle


@given(
    suite=st.lists(st.sampled_from(range(len(POOL))), min_size=2, max_size=8),
    first=st.integers(1, 7),
    spent=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_a_word_that_is_sure_early_is_the_word_of_the_whole_table(
    suite: list[int], first: int, spent: list[bool]
) -> None:
    whole = [Finding(attack=f"s{i}", status="judged", looks=once(POOL[k]), listed=True) for i, k in enumerate(suite)]
    early = [f if i < first else waiting(f.attack) for i, f in enumerate(whole)]
    # What was planned may end as its own control: it is no test then.
    late = [
        f if i < first or used else replace(f, status="identical")
        for i, (f, used) in enumerate(zip(whole, spent, strict=False))
    ]
    said = rule(early, [], complete=True).word
    assert said != "UNDISTILLABLE" or first >= len(suite)
    if said == "DISTILLABLE":
        assert rule(whole, [], complete=True).word == rule(late, [], complete=True).word == "DISTILLABLE"
