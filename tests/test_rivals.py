"""A gain counts over LS student, own loss and twin: the rules of the verdict on teachers that know nothing."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from audit.statistics.compare import Margin, holm
from audit.statistics.sequential import once
from audit.statistics.verdict import ALPHA, DELTA, Finding, adjust, explained, gains, rule, undecided
from reports.record import Over

SEEDS, IMAGES = 10, 6_000


def margin(mean: float, se: float = 0.001, discordant: float = 600) -> Margin:
    """Return a margin in points with this standard error, all of it from seeds."""
    left = 1e-6
    between = (se**2 - left / (SEEDS * IMAGES)) * SEEDS * IMAGES + left
    return Margin(
        mean=mean / 100,
        seeds=SEEDS,
        images=IMAGES,
        discordant=discordant,
        between_seeds=between,
        between_images=left,
        residual=left,
    )


def finding(
    name: str, ls: float, own: float | None, twin: float, *, control: Over | None = None, se: float = 0.001
) -> Finding:
    """Return an attack with these margins in points; its control is the better of LS student and own loss."""
    told: dict[Over, float] = {"ls": ls, "twin": twin} | ({} if own is None else {"own loss": own})
    looks = {over: once(margin(mean, se)) for over, mean in told.items()}
    alone: list[Over] = [over for over in ("ls", "own loss") if over in looks]
    best = control or min(alone, key=lambda over: told[over])
    return Finding(attack=name, status="judged", looks=looks[best], rivals=looks, passes=True)


# The cases that were measured on teachers that know nothing, and on one that does. Points over LS, own loss and twin.
TWIN = finding("nkd", 2.34, 2.1, 0.1, se=0.003)
FIVE_TWINS = (finding("nkd", 1.95, 1.7, -0.2, se=0.003), finding("mse", 1.21, 0.9, 0.05, se=0.003))
FAINT = (finding("soft-kd", 1.78, 0.0, -0.6), finding("dist", 2.0, -0.01, -0.3))
PLACEBO = (finding("soft-kd", -0.4, -0.2, -1.1), finding("avg", -0.9, 0.1, -0.9))
PLAIN = finding("tail-kd", 2.9, 2.7, 2.9)
MIXUP = finding("label-mixup", -0.6, None, 0.4)


def test_the_gain_of_a_twin_is_inconclusive_and_the_reason_says_so() -> None:
    ruling = rule([TWIN, MIXUP], [], complete=True)
    assert ruling.word == "INCONCLUSIVE"
    (reason,) = ruling.reasons
    assert reason == (
        "nkd gains +2.10 points, but the same attack may gain as much on a twin, a teacher that attackers train on "
        "their own data: +0.10 points are left over it, at least −0.45, so that it is not sure that the gain comes "
        "from the teacher"
    )
    assert ruling.settle == "an attack that gains more from the teacher than from a control: more seeds do not show it"


def test_a_gain_over_a_twin_that_the_correction_leaves_unsure_names_the_twin() -> None:
    """As LSKD gained from another student: surely more than from a twin if it were the only attack of five."""
    others = [finding(f"a{i}", 0.0, 0.0, 0.0) for i in range(4)]
    suite = [replace(f, listed=True) for f in (finding("lskd", 2.33, 9.06, 1.31, se=0.0056), *others)]
    ruling = rule(suite, [], complete=True)
    assert ruling.word == "INCONCLUSIVE"
    assert "on a twin" in ruling.reasons[0]
    left, least = ruling.reasons[0].split("data: ")[1].split(" points are left over it, at least ")
    assert left == "+1.31"
    assert least.startswith("−")
    assert " after correction for the number of attacks, so that it is not sure" in least


def test_the_gain_of_five_twins_is_inconclusive() -> None:
    ruling = rule(FIVE_TWINS, [], complete=True)
    assert ruling.word == "INCONCLUSIVE"
    assert len(ruling.reasons) == 2
    assert all("a twin" in reason for reason in ruling.reasons)


def test_what_a_loss_gains_on_labels_does_not_keep_a_truth_from_undistillable() -> None:
    """The LS student is 1.8 points below the own loss: that gain needs no teacher."""
    assert rule(FAINT, [], complete=True).word == "UNDISTILLABLE"
    assert "+0.18 points (soft-kd)" in rule(FAINT, [], complete=True).reasons[0]


def test_a_truth_whose_own_loss_is_not_sure_is_not_distillable() -> None:
    wide = finding("soft-kd", 1.78, 0.1, 0.2, se=0.004)
    assert rule([wide], [], complete=True).word == "INCONCLUSIVE"
    assert "may gain up to" in rule([wide], [], complete=True).reasons[0]


def test_a_control_that_validation_should_not_have_preferred_makes_no_teacher_distillable() -> None:
    unlucky = finding("soft-kd", 1.78, 0.0, 1.5, control="ls")
    ruling = rule([unlucky], [], complete=True)
    assert ruling.word == "INCONCLUSIVE"
    assert "but its loss may gain as much without a teacher: " in ruling.reasons[0]


def test_a_placebo_is_undistillable() -> None:
    assert rule(PLACEBO, [], complete=True).word == "UNDISTILLABLE"


def test_a_gain_over_every_kind_of_control_is_distillable() -> None:
    ruling = rule([PLAIN, *PLACEBO, TWIN], [], complete=True)
    assert ruling.word == "DISTILLABLE"
    assert "tail-kd gains +2.70 points, at least " in ruling.reasons[0]
    assert "over every control after correction" in ruling.reasons[0]
    assert len(ruling.reasons) == 1, "the twin's gain is no reason"


@pytest.mark.parametrize("weak", ["ls", "own", "twin"])
def test_one_control_that_gains_as_much_is_enough_against_distillable(weak: str) -> None:
    margins = {"ls": 2.0, "own": 2.0, "twin": 2.0} | {weak: 0.05}
    assert rule([finding("a", **margins)], [], complete=True).word != "DISTILLABLE"


def test_the_p_of_a_gain_is_the_largest_over_all_controls_and_holm_corrects_it() -> None:
    findings = [TWIN, PLAIN, MIXUP]
    largest = [max(looks.p_above() for looks in f.rivals.values()) for f in findings]
    assert list(adjust(findings).values()) == holm(largest)
    assert PLAIN.least(ALPHA) == min(looks.lower(ALPHA) for looks in PLAIN.rivals.values())


def test_a_control_without_a_usable_interval_is_not_beaten() -> None:
    few = {**PLAIN.rivals, "twin": once(margin(2.9, discordant=3))}
    blind = Finding(attack="tail-kd", status="judged", looks=PLAIN.looks, rivals=few, passes=True)
    assert adjust([blind]) == {"tail-kd": 1.0}
    assert not gains([blind])
    assert rule([blind], [], complete=True).word == "INCONCLUSIVE"


def test_findings_of_records_without_other_controls_are_judged_as_before() -> None:
    old = Finding(attack="nkd", status="judged", looks=TWIN.looks, passes=True)
    assert rule([old], [], complete=True).word == "DISTILLABLE"
    assert "over every control" not in rule([old], [], complete=True).reasons[0]


def test_gains_say_what_the_smallest_corrected_p_says() -> None:
    for means in itertools.product((0.0, 0.3, 2.0), repeat=3):
        found = [finding("a", *means), MIXUP, PLACEBO[0]]
        assert gains(found) == (min(adjust(found).values()) < ALPHA)


def test_a_comparison_stays_open_while_its_twin_may_decide() -> None:
    near = finding("nkd", 2.3, 2.1, 0.3, se=0.003)
    assert undecided([near, MIXUP]) == ["nkd"]
    assert not explained(near)
    sure = finding("nkd", 2.3, 2.1, -1.5)
    assert explained(sure)
    assert undecided([sure, MIXUP]) == [], "more seeds change neither word"
    assert rule([sure, MIXUP], [], complete=True).word == "INCONCLUSIVE"
    assert undecided([finding("nkd", -2.0, -2.0, -3.0)]) == []


def test_adding_attacks_never_makes_a_teacher_undistillable() -> None:
    pool = [TWIN, *FIVE_TWINS, *FAINT, *PLACEBO, PLAIN, MIXUP, finding("wide", 0.0, 0.0, 0.0, se=0.02)]
    pool = [Finding(**{**vars(f), "attack": f"{f.attack} {i}"}) for i, f in enumerate(pool)]
    for size in (1, 2):
        for some in itertools.combinations(pool, size):
            for more in pool:
                if rule(some, [], complete=True).word != "UNDISTILLABLE" and more not in some:
                    assert rule([*some, more], [], complete=True).word != "UNDISTILLABLE"


def test_a_true_gain_of_the_tolerance_over_both_is_rarely_called_undistillable() -> None:
    """Whichever of LS student and own loss validation prefers, the error is that of one bound."""
    rng, se, tries = np.random.default_rng(0), 0.002, 400
    for prefers in ("ls", "own loss"):
        drawn = rng.normal(100 * DELTA, 100 * se, (tries, 2))
        words = [
            rule([finding("a", ls, own, 0.0, control=prefers, se=se)], [], complete=True).word  # type: ignore[arg-type]
            for ls, own in drawn
        ]
        assert words.count("UNDISTILLABLE") <= 0.05 * tries + 2 * (0.05 * 0.95 * tries) ** 0.5


def test_what_a_twin_gives_is_rarely_called_distillable() -> None:
    """The largest of several p-values has at most the error of the one whose hypothesis is true."""
    rng, se, tries = np.random.default_rng(1), 0.002, 400
    words = [rule([finding("a", 2.3, 2.1, m, se=se)], [], complete=True).word for m in rng.normal(0, 100 * se, tries)]
    assert words.count("DISTILLABLE") <= 0.05 * tries + 2 * (0.05 * 0.95 * tries) ** 0.5
