"""The selftest notices an audit that is wrong about a teacher whose distillability is known."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from record_changes import updated
from sample_record import sample_record

from attacks.logits.soft_kd import SoftKD
from attacks.resistant.avg import AVG
from audit.analysis.protocol_flags import null_control
from audit.analysis.teacher_flags import noisy_answers
from audit.pipeline import WrittenAudit
from audit.plan.suite import EFFORTS, SELFTEST
from audit.selftest import EFFORT, EXPECTED, LEAKS, MUST, MUST_NOT, Expectation, Pair, check
from audit.statistics.compare import paired
from reports.record import PackedArray, Record, Word, load
from teachers.names import BUILT_IN, CLASS_MEANS, PLACEBO

SEEDS = 5
FEW = {"light-tuning"}  # flags that follow from few settings


def bits(*accuracies: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    hard = rng.random(4_000)
    return [(hard + 0.02 * rng.standard_normal((SEEDS, 4_000))) < a for a in accuracies]


def made_up(word: Word, soft: np.ndarray, averaged: np.ndarray, without: Sequence[str] = ()) -> Record:
    """Return a record of a word in which two attacks' students got these test images right."""
    record = sample_record(word)
    right = dict(zip((SoftKD.name, AVG.name), (soft, averaged), strict=True))
    trials = [
        record.trials[0].model_copy(update={"key": f"{name}-{seed}", "test_correct": PackedArray.of(right[name][seed])})
        for name in right
        for seed in range(SEEDS)
    ]
    rows = [
        updated(row, {"knockoff.students": tuple(f"{row.attack}-{seed}" for seed in range(SEEDS))})
        for row in record.comparisons
        if row.attack in right and row.attack not in without
    ]
    task = record.task.model_copy(update={"test": soft.shape[1]})
    return record.model_copy(update={"task": task, "trials": tuple(trials), "comparisons": tuple(rows), "flags": ()})


@pytest.mark.parametrize(
    ("expected", "holding"),
    [
        (MUST, {"DISTILLABLE"}),
        (MUST_NOT, {"UNDISTILLABLE", "INCONCLUSIVE"}),
        (LEAKS, {"DISTILLABLE", "INCONCLUSIVE"}),
    ],
)
def test_an_expectation_allows_its_words_alone(expected: Expectation, holding: set[Word]) -> None:
    words: tuple[Word, ...] = ("DISTILLABLE", "UNDISTILLABLE", "INCONCLUSIVE")
    found = {word: check("x", expected, made_up(word, *bits(0.7, 0.7))) for word in words}
    assert {word for word, one in found.items() if one.holds} == holding
    assert {one.found for one in found.values()} == set(words)


def test_a_doubt_about_the_audit_is_no_pass() -> None:
    record = made_up("INCONCLUSIVE", *bits(0.7, 0.7))
    flag = null_control(paired(*bits(0.8, 0.7)))
    assert flag is not None
    assert check("x", MUST_NOT, record).holds
    doubted = check("x", MUST_NOT, record.model_copy(update={"flags": (flag,)}))
    assert not doubted.holds
    assert flag.found in doubted.why
    told = flag.model_copy(update={"caps": "nothing"})
    assert check("x", MUST_NOT, record.model_copy(update={"flags": (told,)})).holds


def test_a_flag_that_must_be_raised_is_no_doubt_and_its_absence_is_one() -> None:
    noise = noisy_answers(np.full(8, 0.3))
    assert noise is not None
    assert noise.caps != "nothing"
    expected = MUST._replace(flag=noise.id)
    record = made_up("DISTILLABLE", *bits(0.7, 0.7))
    assert check("x", expected, record.model_copy(update={"flags": (noise,)})).holds
    assert not check("x", expected, record.model_copy(update={"flags": ()})).holds


PAIR = MUST_NOT._replace(no_better=Pair(SoftKD.name, AVG.name))


@pytest.mark.parametrize(("soft", "holds"), [(0.74, False), (0.70, True), (0.66, True)])
def test_an_attack_may_not_beat_the_same_attack_on_averaged_answers(soft: float, holds: bool) -> None:
    found = check("x", PAIR, made_up("UNDISTILLABLE", *bits(soft, 0.70)))
    assert found.holds == holds
    assert f"points above {AVG.name}" in found.why[-1]
    assert check("x", PAIR, made_up("DISTILLABLE", *bits(soft, 0.70))).holds is False


def test_attacks_that_were_not_compared_are_no_pass() -> None:
    found = check("x", PAIR, made_up("UNDISTILLABLE", *bits(0.7, 0.7), without=(AVG.name,)))
    assert not found.holds
    assert found.why[-1] == f"{AVG.name} trained no students that can be compared"


def test_every_built_in_teacher_is_tested_and_the_placebo_on_averaging_too() -> None:
    assert set(EXPECTED) == set(BUILT_IN) - {CLASS_MEANS}
    assert [name for name, one in EXPECTED.items() if one.no_better is not None] == ["placebo"]


@pytest.mark.parametrize(("word", "code"), [("DISTILLABLE", 1), ("UNDISTILLABLE", 0)])
def test_the_exit_code_says_whether_all_holds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: Word, code: int
) -> None:
    record = made_up(word, *bits(0.7, 0.7))
    monkeypatch.setattr("audit.selftest.run", lambda options, command: WrittenAudit(record, tmp_path))
    got, out, err = call(capsys, "selftest", "--only", "smoothed-truth, placebo")
    assert got == code
    assert err.splitlines() == [f"smoothed-truth: {word}", f"placebo: {word}"]
    assert out.split().count("NO" if code else "yes") == 2


def test_an_unknown_teacher_is_refused_before_any_audit(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "selftest", "--only", "placebo,noise")
    assert code == 2
    assert "there is no teacher 'noise' to test with; there are smoothed-truth, placebo" in err


@pytest.mark.slow
def test_the_placebo_is_found_to_be_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, drawn: Path, tmp_path: Path
) -> None:
    few = {"settings": 3, "tuning_seeds": 1, "seeds": 4, "bite_seeds": 2, "steps": 200, "epochs": 0}
    small = replace(SELFTEST, name="placebo", attacks=(SoftKD.name, AVG.name), **few)
    monkeypatch.setitem(EFFORTS, EFFORT, small)
    argv = ("--only", "placebo", "--jobs", "2", "--cache", str(drawn), "--out", str(tmp_path / "out"))
    _, out, _ = call(capsys, "selftest", *argv)
    record = load(tmp_path / "out/placebo")
    assert f"{SoftKD.name} is " in " ".join(out.split())
    others = tuple(flag for flag in record.flags if flag.id not in FEW)
    found = check(PLACEBO, EXPECTED[PLACEBO], record.model_copy(update={"flags": others}))
    assert found.holds, [flag.id for flag in others]
