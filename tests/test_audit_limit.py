"""`audit limit`: the search, what a budget's audit says, the document and its pages, and wrong words."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import call
from gate_records import OPEN, aside, known
from record_changes import found_in
from sample_limit import ASKER, HOSTILE, document, looked, of, strong

from attacks import registry
from audit.limits import search
from audit.limits.attackers import able, attacks_of, budgets_of, holds_of
from audit.limits.judged import judged, sure, working
from audit.limits.panels import in_order, panel
from audit.plan.suite import QUERIES, STANDARD
from audit.statistics.verdict import ALPHA
from reports.limit import html, markdown, outputs, wording
from reports.limit.document import Cell, Limit, Outcome, load, save
from reports.record import Flag, Record, RecordError
from teachers.errors import UsageError


def searched(truth: Sequence[Outcome], decided: int | None = None) -> tuple[dict[int, Outcome], int]:
    """Search budgets of which each has an outcome; return what is known then, and how many were looked at.

    `decided`: the place of the smallest budget of which others say that an attack gains.
    """
    found: dict[int, Outcome] = {} if decided is None else {decided: "gains"}
    before = len(found)
    while (at := search.following(found, len(truth))) is not None:
        assert at not in found
        found[at] = truth[at]
    return found, len(found) - before


@pytest.mark.parametrize("number", range(1, 14))
def test_the_search_finds_the_largest_safe_budget_in_so_many_looks(number: int) -> None:
    taken = []
    for safe in range(number + 1):
        truth: list[Outcome] = ["safe"] * safe + ["gains"] * (number - safe)
        found, looks = searched(truth)
        assert search.bounds(found, number)[0] == safe - 1
        assert search.implied(found, number) == truth
        taken.append(looks)
    assert max(taken) == search.looks(number), "no look is paid for that cannot be taken"


def test_whatever_the_outcomes_no_more_looks_are_taken_than_were_paid_for() -> None:
    for number in range(1, 8):
        for truth in itertools.product(("safe", "gains", "open"), repeat=number):
            found, looks = searched(truth)
            low, high = search.bounds(found, number)
            assert looks <= search.looks(number)
            assert high == low + 1 or high == number == low + 1, "nothing is left to look at"


@pytest.mark.parametrize("number", range(1, 14))
def test_no_chance_leads_to_other_budgets_that_may_be_falsely_safe(number: int) -> None:
    """The sum of the looks' errors bounds that of the search only where these budgets are known before all looks."""
    for safe in range(number + 1):
        truth: list[Outcome] = ["safe"] * safe + ["open"] * (number - safe)
        plain, _ = searched(truth)
        for decided in range(number):
            found, looks = searched(truth, decided)
            assert {at for at in found if safe <= at != decided} <= set(plain)
            assert looks <= search.looks(number)


def test_what_is_not_decided_decides_nothing() -> None:
    assert search.implied({2: "open"}, 4) == [None, None, "open", None]
    assert search.implied({0: "safe", 2: "gains"}, 4) == ["safe", None, "gains", "gains"]


@pytest.mark.parametrize(
    ("surface", "other", "told"),
    [
        ("probs", "label", True),
        ("probs", "top:5", True),
        ("label", "probs", False),
        ("gradients", "probs", True),
        ("probs", "gradients", False),
        ("top:5", "label", False),
        ("probs", "probs", False),
        ("logits", "probs", True),
    ],
)
def test_who_sees_a_surface_can_compute_what_shows_less(surface: str, other: str, told: bool) -> None:
    assert search.simulates(surface, other) == told


def test_those_that_may_decide_others_come_first() -> None:
    assert in_order(("probs", "label"), ("1", "surrogate", "none")) == [
        *(("label", "none"), ("label", "surrogate"), ("label", "1")),
        *(("probs", "none"), ("probs", "surrogate"), ("probs", "1")),
    ]


def test_the_grid_is_frozen() -> None:
    """Another grid asks another number of looks: an earlier limit would not be found again."""
    assert QUERIES == (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)


def test_a_budget_is_safe_where_every_attack_is_bounded_and_one_is_known_to_work() -> None:
    assert judged(strong(of()))["outcome"] == "safe"
    assert judged(of())["outcome"] == "open"
    assert judged(of("soft-kd"))["outcome"] == "gains"
    assert judged(of("soft-kd"))["attack"] == "soft-kd"
    assert judged(strong(known(of(), {"soft-kd": OPEN})))["outcome"] == "open"


def test_a_gain_that_is_surely_below_the_tolerance_leaves_a_budget_safe() -> None:
    gaining = strong(known(of(), {"soft-kd": (280, 150)}))
    wide = gaining.model_copy(update={"settings": replace(gaining.settings, delta=5.0)})
    assert (judged(gaining)["outcome"], judged(wide)["outcome"]) == ("gains", "safe")
    assert sure(of("soft-kd").model_copy(update={"settings": wide.settings})), "a gain of 12.9 points, of 5 at least"
    assert not sure(wide), "a gain of 2.1 points: all attacks must run before the budget can be called safe"


def test_with_few_queries_it_counts_what_worked_with_more() -> None:
    assert working(of()) == set()
    assert judged(of())["outcome"] == "open"
    assert judged(of(), {"avg"})["outcome"] == "safe"
    assert working(of("soft-kd")) >= {"soft-kd"}, "what gains from the audited teacher works"


def test_an_attack_that_failed_leaves_a_budget_open() -> None:
    assert judged(aside(of(), "failed", "avg"), {"soft-kd"})["outcome"] == "open"


def test_without_images_the_gain_is_over_the_largest_class() -> None:
    record = of(outsiders=True)
    row, found = found_in(record, "knockoff"), judged(record)
    assert row.margin is not None
    assert row.margin.mean < 0, "it is far below students that have the images"
    assert found["without"] == pytest.approx(record.task.majority)
    assert found["gain"].mean == pytest.approx(row.knockoff.accuracy - record.task.majority)  # type: ignore[operator]
    assert found["outcome"] != "safe"


def test_doubts_about_students_with_images_stop_no_attacker_without() -> None:
    doubt = Flag(id="control-at-ceiling", found="the control is nearly perfect", why="", do="", caps="undistillable")

    def outcome(record: Record) -> str:
        doubted = record.model_copy(update={"flags": (doubt,)})
        return str(judged(doubted, {"soft-kd"})["why"])

    assert outcome(of()) == "the control is nearly perfect"
    assert outcome(of(outsiders=True)) != "the control is nearly perfect"


def test_the_error_rate_of_a_record_is_that_of_its_bounds() -> None:
    usual, less = found_in(of(), "soft-kd"), found_in(of(alpha=0.01), "soft-kd")
    assert usual.margin is not None
    assert less.margin is not None
    assert less.margin.upper > usual.margin.upper
    assert less.margin.lower < usual.margin.lower
    assert "error rate 1 % a word" in of(alpha=0.01).verdict.scope
    assert of(alpha=0.01).verdict.alpha == 0.01


def test_a_panel_has_every_budget_and_says_which_others_decide() -> None:
    found, seen = looked(ASKER, 2)
    assert seen == [3, 1, 2]
    assert [cell.outcome for cell in found.cells] == ["safe", "safe", "gains", "gains"]
    assert found.safe is not None
    assert found.safe.budget == 1_000
    assert found.gains is not None
    assert found.gains.budget == 10_000
    assert [cell.audited for cell in found.cells] == [False, True, True, True]
    assert found.alpha == ALPHA / 3


def test_safe_with_any_number_takes_one_look_but_an_attack_must_be_known_to_work() -> None:
    found, seen = looked(ASKER, 9)
    assert seen[0] == 3
    assert found.safe is None, "no attack was seen to work"
    whole = panel(ASKER, {}, lambda _: strong(of(alpha=ASKER.alpha)))
    assert whole.safe == whole.cells[-1]
    assert [cell.audited for cell in whole.cells] == [False, False, False, True]


def test_what_gains_through_less_gains_through_more() -> None:
    label, _ = looked(ASKER._replace(surface="label"), 2)
    found, seen = looked(ASKER, 2, {("label", "1"): label})
    assert seen == [1], "10,000 queries gain already"
    assert found.gains is not None
    assert found.gains.why == "gains through label with all of the data"
    _, seen = looked(ASKER._replace(hold="0.1"), 2, {("label", "1"): label})
    assert 3 in seen, "another attacker is another question"


@pytest.mark.parametrize("hold", ["2", "0", "-1", "half", "nan", ""])
def test_a_wrong_attacker_is_refused(hold: str) -> None:
    with pytest.raises(UsageError, match="give fractions of the data such as"):
        holds_of(hold)


@pytest.mark.parametrize("budgets", ["0", "-5", "1e3", "many", "", "100,auto", "1.5"])
def test_a_wrong_budget_is_refused(budgets: str) -> None:
    with pytest.raises(UsageError, match="give auto, or numbers of queries with commas"):
        budgets_of(budgets)


def test_words_are_read_as_they_are_meant() -> None:
    assert holds_of("1.0, .1,0.10,none") == ("1", "0.1", "none")
    assert budgets_of("3000,100,100") == (100, 3000)
    assert budgets_of("auto") == QUERIES


def test_each_attacker_has_the_attacks_that_they_can_run() -> None:
    for attack in registry.OURS:
        assert [hold for hold in ("1", "surrogate", "none") if able(attack, hold)] == {
            "original": ["1"],
            "surrogate": ["surrogate"],
            "no data": ["surrogate", "none"],
        }[attack.holds]
    every = {name for hold in ("1", "surrogate") for name in attacks_of(STANDARD, "all", hold)}
    assert every >= set(STANDARD.attacks)
    with pytest.raises(UsageError, match="unknown"):
        attacks_of(STANDARD, "nosuch", "1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--hold", "half"), "--hold half"),
        (("--budgets", "many"), "--budgets many"),
        (("--surfaces", "nosuch"), "nosuch"),
        (("--attacks", "noise", "--hold", "1"), "no attack of --attacks noise is one of attackers who hold 1"),
        (("--effort", "large"), "unknown effort"),
    ],
)
def test_wrong_words_of_the_command_are_a_sentence(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "limit", "--teacher", "demo", "--out", str(tmp_path / "out"), *words)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_rate_limit_can_be_written_from_its_sentence() -> None:
    first, second = wording.sentences(document())
    assert first.startswith("Through probs, 1,000 queries in all are safe where attackers hold all of the data: ")
    assert (
        "no attack in scope gains 0.5 points. Where they hold 10 % of the data, no number was shown to be safe" in first
    )
    assert "soft-kd gains +12.90" in first
    assert "with 100 queries." in first
    assert second == (
        "Through label, any number of queries is safe where attackers hold all of the data: no attack in scope gains "
        "0.5 points."
    )


def test_the_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    save(document(), tmp_path)
    assert load(tmp_path) == document()


@pytest.mark.parametrize("break_it", [lambda p: p.unlink(), lambda p: p.write_text("{"), lambda p: p.write_text("{}")])
def test_a_document_that_cannot_be_read_is_a_sentence(break_it: Callable[[Path], object], tmp_path: Path) -> None:
    save(document(), tmp_path)
    break_it(tmp_path / "limit.json")
    with pytest.raises(RecordError, match="give the folder that"):
        load(tmp_path)


@pytest.mark.parametrize("render", [html.render, markdown.render])
def test_pages_say_every_sentence_and_hide_no_name(render: Callable[[Limit], str]) -> None:
    page = render(document(HOSTILE))
    assert "<script" not in page
    assert "AML.M0004" in page
    assert "v1.0-C11.2.2" in page
    assert "supports evidence for" in page
    assert render(document(HOSTILE)) == page


def test_every_cell_of_the_map_is_marked_and_not_by_colour_alone() -> None:
    page = html.render(document())
    assert page.count(">safe</text>") == 6
    assert page.count(">gains</text>") == 6


def test_files_are_written_whole(tmp_path: Path) -> None:
    outputs.write(document(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(outputs.FILES)


def test_a_cell_that_nobody_looked_at_says_so() -> None:
    assert wording.outcome(Cell(budget=5)) == "nobody looked"
    assert wording.outcome(Cell(budget=5, outcome="safe")) == "safe (decided by others)"
