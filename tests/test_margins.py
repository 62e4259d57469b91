"""Page, summary, terminal, JSON, tables and verdict show an attack's margins over each kind of control."""

import json
from pathlib import Path

import pytest
from sample_record import interval, sample_record

from reports import controls, html, markdown
from reports.controls import HEADS, beaten, home
from reports.frames import Frames
from reports.record import Comparison, ControlMargin, Over, Record, dumped
from reports.tables import MARGINS
from reports.verdict import print_verdict, print_verdict_json
from reports.wording import doubt, outcome

MEANS: dict[Over, float] = {"ls": 0.0234, "own loss": 0.021, "twin": 0.001, "home-made": -0.0005}
HOSTILE = "<b>x|y"


def told(means: dict[Over, float], name: str = "soft-kd") -> Record:
    """Return the sample record, in which one attack has margins."""
    record = sample_record()
    margins = tuple(
        ControlMargin(over=over, name=HOSTILE, parameters={"weight": 0.9}, students=(), margin=interval(mean, 0.002))
        for over, mean in means.items()
    )
    rows = tuple(
        row.model_copy(update={"margins": margins}) if row.attack == name else row for row in record.comparisons
    )
    return record.model_copy(update={"comparisons": rows})


def row_of(record: Record) -> Comparison:
    return next(row for row in record.comparisons if row.margins)


def test_four_margins_stand_in_one_row_of_every_report(capsys: pytest.CaptureFixture[str]) -> None:
    record = told(MEANS)
    page, summary = html.render(record), markdown.render(record)
    print_verdict(record, Path())
    shown = capsys.readouterr().out
    for text in (summary, shown):
        assert "soft-kd" in next(line for line in text.splitlines() if "+2.34" in line)
    for mean in ("+2.34", "+2.10", "+0.10", "−0.05"):
        assert all(mean in text for text in (page, summary, shown))
    for head in HEADS.values():
        assert head in summary
        assert f"{head[0].upper()}{head[1:]}" in page
    assert "at least −0.25, at most +0.45" in page
    assert page.count("<small>at least") == 3, "the margin over a home-made teacher has no looks"
    assert HOSTILE not in page
    assert "A teacher is DISTILLABLE only if" in summary


def test_json_has_every_margin_with_its_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    print_verdict_json(told(MEANS), Path())
    rows = {row["attack"]: row["margins"] for row in json.loads(capsys.readouterr().out)["attacks"]}
    found = rows.pop("soft-kd")
    assert [one["over"] for one in found] == list(HEADS)
    assert found[2]["mean"] == pytest.approx(0.001)
    assert found[2]["lower"] == pytest.approx(0.001 - 1.73 * 0.002)
    assert set(found[0]) == {"over", "control", "mean", "low", "high", "lower", "upper", "p", "seeds"}
    assert not any(rows.values())


def test_the_table_of_margins_has_a_row_for_every_kind(tmp_path: Path) -> None:
    frame = Frames.of(told(MEANS)).margins
    assert list(frame.over) == list(HEADS)
    assert list(frame.margin) == pytest.approx(list(MEANS.values()))
    assert MARGINS.values(sample_record()) == []


def test_a_record_without_such_margins_is_written_and_shown_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    record = sample_record()
    print_verdict(record, Path())
    for text in (html.render(record), markdown.render(record), capsys.readouterr().out, dumped(record).decode()):
        assert "over a twin" not in text.lower()
        assert '"margins": [' not in text
    assert Record.model_validate_json(dumped(told(MEANS))) == told(MEANS)


def test_an_attack_of_which_a_kind_is_missing_shows_a_dash() -> None:
    row = row_of(told({"ls": 0.01, "twin": 0.02}))
    assert [cell[:5] for cell in controls.cells(row)] == ["+1.00", "–", "+2.00", "–"]


@pytest.mark.parametrize(
    ("mean", "words"),
    [
        (-0.0005, "a teacher trained at home gives as much: over it the margin is −0.05 [−0.47, +0.37] points"),
        (0.03, "a teacher trained at home gives less: over it the margin is +3.00 [+2.58, +3.42] points"),
        (-0.03, "a teacher trained at home gives more: over it the margin is −3.00 [−3.42, −2.58] points"),
    ],
)
def test_a_sentence_says_what_a_teacher_trained_at_home_gives(mean: float, words: str) -> None:
    assert home(row_of(told({**MEANS, "home-made": mean}))) == words
    assert home(sample_record().comparisons[0]) == ""


def test_a_sentence_names_every_kind_of_control_that_the_attack_has() -> None:
    assert beaten(row_of(told(MEANS))) == (
        ", than one with the attack's loss and no teacher, and than one that learns from a twin"
    )
    assert beaten(row_of(told({"ls": 0.01, "twin": 0.01}))) == ", and than one that learns from a twin"
    assert beaten(sample_record().comparisons[0]) == ""


def test_an_attack_whose_twin_gains_as_much_is_not_told_as_one_that_gains_nothing() -> None:
    record = told(MEANS)
    row = row_of(record).model_copy(update={"margin": interval(0.0234, 0.002), "p_holm": 0.7})
    assert (outcome(row, record), doubt(row, record)) == ("may gain, not shown", "a twin may give as much")
    sure = row.model_copy(update={"p_holm": 0.001})
    assert (outcome(sure, record), doubt(sure, record)) == ("gains", "")
    none = row.model_copy(update={"margin": interval(0.0, 0.002)})
    assert (outcome(none, record), doubt(none, record)) == ("cannot gain 0.5", "")
