"""The answer at the top: the attack that carries the word, the interval that decides, and three outcomes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pages import WORDS
from sample_record import interval, sample_record
from shipped import DEMO

from reports import answer
from reports.record import Comparison, Record, Word, load
from reports.wording import carrier, control, doubt, ends, outcome, scope, sure


def changed(record: Record, **verdict: Any) -> Record:
    """Return the record with another verdict, and no flag that limits it."""
    return record.model_copy(update={"flags": (), "verdict": record.verdict.model_copy(update=verdict)})


def with_rows(record: Record, **rows: dict[str, Any]) -> Record:
    """Return the record with changed comparisons, by attack; `_` stands for `-`."""
    update = {name.replace("_", "-"): change for name, change in rows.items()}
    changes = tuple(c.model_copy(update=update.get(c.attack, {})) for c in record.comparisons)
    return record.model_copy(update={"comparisons": changes})


def row(record: Record, attack: str) -> Comparison:
    """Return one attack's row."""
    return next(c for c in record.comparisons if c.attack == attack)


def test_the_attack_with_the_largest_margin_does_not_carry_the_word_if_another_gains() -> None:
    wide = {"margin": interval(0.1291, 0.03), "p_holm": 0.2, "corrected_lower": -0.01}
    record = with_rows(sample_record(), dkd=wide, soft_kd={"corrected_lower": 0.009})
    best = carrier(record)
    assert best is not None
    assert (best.attack, outcome(best, record)) == ("soft-kd", "gains")
    assert outcome(row(record, "dkd"), record) == "may gain, not shown"
    assert "worth 1.4 points: a copy reaches 85.5\u202f% with its answers and 84.1\u202f%" in answer.sentence(record)


def test_of_several_attacks_that_gain_the_surest_gain_carries_the_word() -> None:
    record = with_rows(sample_record(), dkd={"corrected_lower": 0.004}, soft_kd={"corrected_lower": 0.009})
    best = carrier(record)
    assert best is not None
    assert best.attack == "soft-kd"


@pytest.mark.parametrize(
    ("word", "attack", "said"),
    [
        ("DISTILLABLE", "dkd", "Asking cmim.pt is worth 1.9 points: a copy reaches 86.0\u202f% with its answers and"),
        ("UNDISTILLABLE", "dkd", "Asking cmim.pt is worth less than 0.5 points: a copy reaches"),
        ("INCONCLUSIVE", "dkd", "Not decided: upper bound of dkd is +0.63 points"),
    ],
)
def test_one_sentence_says_what_asking_is_worth(word: Word, attack: str, said: str) -> None:
    record = sample_record(word)
    best = carrier(record)
    assert best is not None
    assert best.attack == attack
    assert answer.sentence(record).startswith(said)
    assert answer.sentence(record).endswith("cmim.pt itself has 89.9\u202f%.")
    shares = {mark.kind: mark.share for mark in answer.marks(record)}
    assert shares == {"without": best.control.accuracy, "copy": best.knockoff.accuracy, "teacher": 0.8987}


def test_without_a_judged_attack_there_is_an_answer_and_the_teacher_alone() -> None:
    record = sample_record().model_copy(update={"comparisons": ()})
    assert answer.sentence(record) == "No attack on cmim.pt could be judged."
    assert [mark.kind for mark in answer.marks(record)] == ["teacher"]


@pytest.mark.parametrize("word", WORDS)
def test_what_to_do_next_is_said_of_an_undecided_word_only(word: Word) -> None:
    record = changed(sample_record(word), settle="about 12 seeds (--seeds)", reasons=("dkd may gain",))
    assert bool(answer.following(record)) == (word == "INCONCLUSIVE")


def test_too_few_repetitions_are_told_with_the_time_that_more_take() -> None:
    record = changed(sample_record("INCONCLUSIVE"), settle="about 12 seeds (--seeds)", reasons=("dkd may gain",))
    used = {"students": ("dkd-0", "dkd-1")}
    dkd = row(record, "dkd")
    told = with_rows(record, dkd={"knockoff": dkd.knockoff.model_copy(update=used), "margin": interval(0.01, 0.004)})
    told = told.model_copy(update={"times": told.times.model_copy(update={"reused": 0, "wall_seconds": 80.0})})
    assert answer.sentence(told).startswith("Too few repetitions to say. So far a copy reaches")
    # 16 students of 11.5 s in 80 s: 2.3 at once. Ten more seeds of one student of 11.5 s each: 50 s, ± 40 %.
    assert answer.following(told) == "Next: about 12 seeds (--seeds), about 35 s to 1 min on the machine of this audit."
    assert answer.following(record) == "Next: about 12 seeds (--seeds)."  # some students came from the cache


def test_a_flag_that_limits_the_verdict_is_the_reason_that_is_told() -> None:
    record = sample_record("INCONCLUSIVE")
    flags = (record.flags[0].model_copy(update={"found": "the teacher changes.", "caps": "inconclusive"}),) * 2
    assert answer.sentence(record.model_copy(update={"flags": flags})).startswith(
        "Not decided: the teacher changes (and 1 more). So far"
    )


def test_a_gain_that_does_not_count_is_told_before_what_only_the_other_word_needs() -> None:
    why = "dkd gains +1.91 points, but the same attack may gain as much on a twin"
    record = changed(sample_record("INCONCLUSIVE"), reasons=("one seed tunes", why), settle="use --effort standard")
    first = sample_record("INCONCLUSIVE").flags[0]
    flag = first.model_copy(update={"found": "one seed tunes", "caps": "undistillable"})
    light = record.model_copy(update={"flags": (flag,)})
    assert answer.sentence(light).startswith(f"Not decided: {why}. So far")
    stopped = record.model_copy(update={"flags": (flag.model_copy(update={"caps": "inconclusive"}),)})
    assert answer.sentence(stopped).startswith("Not decided: one seed tunes. So far"), "that flag rules out both words"
    assert answer.following(light) == (
        "Next: use --effort standard; `audit plan` with it says what that takes, and what it can see."
    )


def test_the_sure_range_is_corrected_below_and_holds_over_looks_above() -> None:
    record = with_rows(sample_record(), lskd={"corrected_lower": -0.0048})
    own = row(record, "lskd")
    assert own.margin is not None
    assert sure(own, record) == (-0.0048, own.margin.upper)
    assert ends(sure(own, record)).startswith("[−0.48, ")
    null = record.controls[0]
    assert null.margin is not None
    assert sure(null, record) == (null.margin.low, null.margin.high)
    assert math.isnan(sure(row(record, "label-kd"), record)[0])
    assert ends(sure(row(record, "label-kd"), record)) == "–"


def test_an_attack_that_gains_by_holm_alone_is_not_drawn_across_zero() -> None:
    record = with_rows(sample_record(), dkd={"corrected_lower": -0.001, "p_holm": 0.049})
    assert sure(row(record, "dkd"), record)[0] == 0.0
    lost = with_rows(sample_record(), dkd={"corrected_lower": -0.001, "p_holm": 0.051})
    assert sure(row(lost, "dkd"), lost)[0] == -0.001
    assert outcome(row(lost, "dkd"), lost) == "may gain, not shown"


def test_a_small_gain_that_the_correction_leaves_unsure_is_bounded_as_the_verdict_has_it() -> None:
    small = interval(0.003, 0.001)  # at most 0.47 points, above 0 on its own
    for corrected, said in ((-0.0001, "cannot gain 0.5"), (0.0001, "may gain, not shown")):
        record = with_rows(sample_record(), avg={"margin": small, "corrected_lower": corrected, "p_holm": 0.2})
        assert outcome(row(record, "avg"), record) == said


def test_an_interval_of_too_few_images_or_without_a_variance_shows_nothing() -> None:
    few = interval(-0.01, 0.001)
    record = sample_record()
    for margin in (few.model_copy(update={"discordant": 29.9}), few.model_copy(update={"df": 0.0})):
        own = with_rows(record, avg={"margin": margin})
        assert outcome(row(own, "avg"), own) == "may gain, not shown"
        assert doubt(row(own, "avg"), own) == "too few images tell the two apart"
    same = dict.fromkeys(("mean", "se", "df", "low", "high", "lower", "upper", "discordant"), 0.0)
    own = with_rows(record, avg={"margin": few.model_copy(update=same)})
    assert (outcome(row(own, "avg"), own), doubt(row(own, "avg"), own)) == ("cannot gain 0.5", "")


def test_outcomes_of_a_real_audit_agree_with_the_reasons_of_its_verdict() -> None:
    record = load(DEMO)
    for own in record.comparisons:
        named = any(reason.startswith((f"{own.attack} ", f"{own.attack}:")) for reason in record.verdict.reasons)
        assert outcome(own, record).startswith("cannot") == (not named), own.attack


def test_the_scope_is_told_in_a_line_and_a_row_says_what_its_control_is() -> None:
    record = load(DEMO)
    assert scope(record) == (
        "2 attacks that work · probs · no query limit · all training images · 2 seeds · 6,200 test images"
    )
    assert control(row(record, "soft-kd"), record) == "ls (smoothing=0, view=crop), original images, crop views"
