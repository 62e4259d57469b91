"""The rules of the verdict, on findings made by hand."""

import itertools

import numpy as np
import pytest

from audit.compare import Margin, paired
from audit.verdict import DELTA, Finding, level_of, rule
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


def judged(name: str, mean: float, *, bites: bool = True, spread: float = 0.0005) -> Finding:
    return Finding(attack=name, status="judged", margin=margin(mean, spread), bites=bites)


def flag(caps: str) -> Flag:
    return Flag(id="x", raised="r", why="w", do="d", caps=caps)  # type: ignore[arg-type]


GAIN, NONE, WIDE = judged("gain", 0.03), judged("none", -0.01), judged("wide", 0.0, spread=0.02)


def test_one_attack_that_gains_is_enough_for_distillable() -> None:
    ruling = rule([NONE, GAIN], [], complete=True)
    assert ruling.word == "DISTILLABLE"
    assert "gain gains +" in ruling.reasons[0]


def test_distillable_holds_though_the_attack_does_not_bite_or_the_suite_is_partial() -> None:
    assert rule([judged("gain", 0.03, bites=False)], [], complete=False).word == "DISTILLABLE"


def test_no_gain_with_narrow_intervals_is_undistillable() -> None:
    ruling = rule([NONE, judged("zero", -0.004)], [], complete=True)
    assert ruling.word == "UNDISTILLABLE"
    assert "below the tolerance" in ruling.reasons[0]


@pytest.mark.parametrize(
    ("findings", "complete", "reason"),
    [
        ([NONE], False, "did not run in full"),
        ([NONE, Finding(attack="bad", status="failed")], True, "bad failed"),
        ([judged("none", -0.01, bites=False)], True, "bites on the ordinary teacher"),
        ([NONE, WIDE], True, "may gain up to"),
        ([Finding(attack="same", status="identical")], True, "bites on the ordinary teacher"),
        ([Finding(attack="hidden", status="not applicable")], True, "bites on the ordinary teacher"),
        ([], True, "bites on the ordinary teacher"),
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
    close = Finding(attack="close", status="judged", margin=paired(few, np.zeros_like(few)), bites=True)
    tied = Finding(attack="tied", status="judged", margin=paired(few, some), bites=True)
    for finding in (close, tied):
        ruling = rule([NONE, finding], [], complete=True)
        assert ruling.word == "INCONCLUSIVE"
        assert any("discordant" in r for r in ruling.reasons)


def test_adding_an_attack_never_turns_a_verdict_into_undistillable() -> None:
    pool = [GAIN, NONE, WIDE, judged("dull", -0.2, bites=False), Finding(attack="bad", status="failed")]
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


def test_looks_spend_half_of_what_is_left() -> None:
    assert [level_of(k) for k in (1, 2, 3)] == [0.025, 0.0125, 0.00625]
    assert sum(level_of(k) for k in range(1, 60)) <= 0.05
    weak = judged("weak", 0.002, spread=0.0008)
    assert rule([weak], [], complete=True, look=1).word == "DISTILLABLE"
    assert rule([weak], [], complete=True, look=12).word != "DISTILLABLE"
