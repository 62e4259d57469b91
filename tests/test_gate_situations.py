"""The gate in every situation: the exit codes of docs/gate.md are those that the command really gives."""

import re
from collections import Counter
from pathlib import Path

import pytest
from drawings import drawn_once
from gate_situations import SITUATIONS, Outcome, Situation, outcome, rows

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "gate.md"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[Situation, Outcome]:
    with drawn_once():
        return {situation: outcome(situation, tmp_path_factory.mktemp("situation")) for situation in SITUATIONS}


def test_the_page_says_what_the_command_does(done: dict[Situation, Outcome]) -> None:
    """Where this fails: PYTHONPATH=. python tests/gate_situations.py."""
    section = PAGE.read_text(encoding="utf-8").split("## Situations")[1].split("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("|")] == list(rows(done.__getitem__))


def test_every_exit_code_occurs(done: dict[Situation, Outcome]) -> None:
    codes = Counter(one.code for one in done.values())
    assert codes.keys() == {0, 1, 2, 3, 4, 5}
    assert f"what comes of {len(done)} situations" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_what_is_refused_gets_one_sentence(done: dict[Situation, Outcome]) -> None:
    for situation, one in done.items():
        if one.code in (2, 4):
            assert re.fullmatch(r"audit: [^\n]+\n", one.err), situation
            assert not one.out
        else:
            assert not one.err


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ("an unknown key", "policy.toml, line 2: tolerence is not a key of this table; did you mean tolerance?"),
        ("a wrong type", 'policy.toml, line 2: max_age_days is "a month"; it must be a whole number of days'),
        ("a waiver without a reason", "policy.toml, line 2: waive.reason is missing; give a sentence in quotes"),
        (
            "a waiver of an unknown attack",
            'line 3: waive.attack is "sotf-kd", which is not an attack; did you mean soft-kd?',
        ),
        ("an unknown suite", 'line 3: suite.name is "standrad-2"; did you mean standard-2?'),
        ("no TOML", "policy.toml is not valid TOML: Invalid value (at line 2, column 12)"),
        ("a baseline of another task", "line 3: baseline.record names an audit of another task"),
        ("`audit run`", 'line 2: surfaces has "label", which this audit does not run; give --surface probs,label'),
        ("a surface that was not audited", "label was not audited; audit it with --surface probs,label"),
        ("two surfaces", "surface probs: DISTILLABLE: soft-kd gains +12.90 points"),
        ("DISTILLABLE by an attack that is waived", "soft-kd is waived until 2026-06-30: answers are metered"),
        ("DISTILLABLE by an attack that is waived", "surface probs: UNDISTILLABLE without soft-kd: the largest upper"),
        ("an expired waiver that", "the waiver of soft-kd expired on 2026-06-14: renew it or remove it"),
        ("undecided within", "INCONCLUSIVE at a tolerance of 0.2 points: soft-kd may gain up to +0.47 points"),
        ("a stale audit", "the audit of 2026-06-01 is 14 days old, the policy allows 13"),
        ("a crashed attack, ", "surface probs: soft-kd did not run: as the test has it"),
        ("a changed report", "it does not verify: summary.md"),
        ("a regression", "the margin grew by more than 0.5 points: soft-kd (+16.13 points against +12.90: +3.23 ["),
        ("perhaps a", "may have grown by more than 0.5 points: soft-kd (+13.06 points against +12.90: +0.16 ["),
        ("every margin as in", "4 of 4 margins did not grow by 0.5 points: the students of both audits are the same"),
        ("smaller margins", "4 of 4 margins did not grow by 0.5 points: the largest upper bound is"),
    ],
)
def test_it_says_why(done: dict[Situation, Outcome], told: str, sentence: str) -> None:
    one = next(one for situation, one in done.items() if situation.told.startswith(told))
    assert sentence in (one.out + one.err).replace('\\"', '"')
