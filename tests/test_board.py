"""The board ranks teachers by what every attack surely gains less than, one panel for every task and attacker."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from pages import infested_panels, lifting
from record_changes import another, updated
from scipy import stats
from shipped import DEMO

from audit.board.files import board_of
from audit.board.rows import Submission, board, correlation
from reports.board import html, markdown
from reports.board.document import Board, Row
from reports.record import Record, dumped, load
from reports.wording import percent, sure
from teachers.errors import UsageError


@pytest.fixture(scope="module")
def first() -> Record:
    return load(DEMO)


@pytest.fixture(scope="module")
def zoo(first: Record) -> list[Record]:
    """Return audits of six teachers with growing margins, the least accurate one first."""
    found = []
    for i, (name, digit) in enumerate(zip("uvwxyz", "abcdef", strict=True)):
        record = lifting(first, 0.01 * i)
        found.append(updated(record, {"audit": digit * 64, "teacher.name": name, "teacher.sha256": digit * 64}))
    return [updated(r, {"teacher.test_accuracy": 0.7 + 0.02 * i}) for i, r in enumerate(found)]


def panels(records: list[Record]) -> Board:
    return board([Submission(f"place {i}", record) for i, record in enumerate(records)])


def rows(records: list[Record]) -> tuple[Row, ...]:
    (panel,) = panels(records).panels
    return panel.rows


def test_teachers_are_ranked_by_the_largest_upper_end_of_all_attacks(zoo: list[Record]) -> None:
    found = rows(zoo[::-1])
    assert [row.entry.name for row in found] == list("uvwxyz")
    assert [row.entry.rank for row in found] == [1, 2, 3, 4, 5, 6]
    for row, record in zip(found, zoo, strict=True):
        uppers = {record.name_of(c): sure(c, record)[1] for c in record.comparisons}
        assert row.largest is not None
        assert (row.largest.attack, row.largest.high) == max(uppers.items(), key=lambda one: one[1])


def test_teachers_whose_attacks_have_not_all_run_have_no_bound_and_come_last(zoo: list[Record]) -> None:
    planned = zoo[0].comparisons[0].model_copy(update={"status": "planned", "margin": None})
    partial = zoo[0].model_copy(update={"comparisons": (planned, *zoo[0].comparisons[1:])})
    *_, last = rows([partial, *zoo[1:]])
    assert (last.entry.name, last.largest, last.undominated) == ("u", None, False)
    assert f"{planned.attack} (planned)" in last.entry.missing


def test_the_best_trades_are_those_that_no_other_teacher_beats(zoo: list[Record]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        drawn = [updated(r, {"teacher.test_accuracy": float(rng.choice([0.7, 0.8, 0.9]))}) for r in zoo]
        found = rows(drawn)
        points = [(row.entry.accuracy, -row.largest.high) for row in found if row.largest]
        best = [all(not (b[0] >= a[0] and b[1] >= a[1] and b != a) for b in points) for a in points]
        assert [row.undominated for row in found] == best
        assert any(best)


def test_adaptive_attacks_stand_beside_passive_ones_with_the_gap(first: Record) -> None:
    """The gap is a difference of margins on the same images, as `audit compare` computes it."""
    record = another(first, "a", lift=0.1)
    renamed = tuple(
        row.model_copy(update={"attack": "adaptive"}) if row.attack == "avg" else row for row in record.comparisons
    )
    (row,) = rows([record.model_copy(update={"comparisons": renamed})])
    margins = {c.attack: c.margin.mean for c in renamed if c.margin}
    adaptive = margins.pop("adaptive")
    assert row.adaptive is not None
    assert row.passive is not None
    assert row.gap is not None
    assert (row.adaptive.attack, row.adaptive.mean) == ("adaptive", adaptive)
    assert (row.passive.attack, row.passive.mean) == max(margins.items(), key=lambda one: one[1])
    assert row.gap.mean == pytest.approx(adaptive - row.passive.mean)
    assert row.gap.low < row.gap.mean < row.gap.high


def test_every_question_is_a_panel_of_its_own(zoo: list[Record]) -> None:
    one, two, three, four, *_ = zoo
    seen = updated(two, {"settings": replace(two.settings, surface="top:5")})
    scarce = updated(three, {"settings": replace(three.settings, shots=0.1), "task.pool_digest": "b" * 64})
    other = updated(four, {"suite.name": "board-1"})
    found = panels([one, seen, scarce, other]).panels
    titles = [panel.title for panel in found]
    assert len(set(titles)) == 4
    tenth = f"glyphs: {percent(0.1, 0)} of the images; answers: probs"
    assert {"glyphs: all images; answers: top:5", tenth} < set(titles)
    assert sum("suite board-1" in title for title in titles) == 1
    assert all(len(panel.rows) == 1 for panel in found)


def test_the_interval_of_a_rank_correlation_holds_the_true_one() -> None:
    """Of normal pairs with correlation 0.5 Spearman's is 6/pi asin(1/4)."""
    rng, true, hits = np.random.default_rng(0), 6 / math.pi * math.asin(0.25), 0
    for _ in range(400):
        pairs = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 26)
        found = correlation(map(tuple, pairs))
        assert found is not None
        assert found.rho == pytest.approx(stats.spearmanr(*pairs.T).statistic)
        hits += found.low <= true <= found.high
    assert 0.92 <= hits / 400 <= 0.98, hits


@pytest.mark.parametrize("pairs", [[], [(1.0, 2.0)] * 9, [(0.1 * i, 0.2) for i in range(9)], [(1.0, 1.0), (2.0, 2.0)]])
def test_few_or_equal_teachers_have_no_rank_correlation(pairs: list[tuple[float, float]]) -> None:
    assert correlation(pairs) is None


def test_a_perfect_rank_correlation_has_no_width() -> None:
    found = correlation((0.1 * i, i**3) for i in range(6))
    assert found is not None
    assert found.low == found.rho == found.high == pytest.approx(1)


def test_pages_hold_every_number_and_are_the_same_for_the_same_board(zoo: list[Record]) -> None:
    made_of = panels(zoo)
    page, text = html.render(made_of), markdown.render(made_of)
    assert (page, text) == (html.render(made_of), markdown.render(made_of))
    for row in made_of.panels[0].rows:
        assert row.largest is not None
        bound = f"+{100 * row.largest.high:.2f}"
        assert bound in page
        assert f"| {row.entry.rank} | {row.entry.name}" in text
        assert bound in text
    assert "Less than the tolerance of 0.50 points: none of 6 teachers." in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_hostile_names_stay_text(first: Record) -> None:
    page = html.render(infested_panels(first))
    assert "<script>alert" not in page
    assert page.count("<script>") == 1


def kept(folder: Path, records: list[Record]) -> Path:
    for record in records:
        (folder / record.teacher.name).mkdir(parents=True)
        (folder / record.teacher.name / "record.json").write_bytes(dumped(record))
    return folder


def test_a_folder_of_audits_becomes_a_page(
    zoo: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = kept(tmp_path / "audits" / "deep #1", zoo)
    (there / "entry.toml").write_text('by = "us"\n')
    (there / "v" / "entry.toml").write_text('defence = "walls"\nlink = "https://example.org/walls"\n')
    (there / "v" / "report.html").write_text("")
    (tmp_path / "entry.toml").write_text("above the folder = nobody looks here")
    code, out, _ = call(capsys, "board", str(tmp_path / "audits"), "--out", str(tmp_path / "pages"))
    assert code == 0
    assert "Every attack surely gains less than" in out
    page = (tmp_path / "pages/board.html").read_text(encoding="utf-8")
    assert '<a href="../audits/deep%20%231/v/report.html">' in page
    assert '<a href="https://example.org/walls"><bdi>walls</bdi></a>' in page
    assert page.count("<small><bdi>us</bdi></small>") == 5, "the nearest file is asked, and no other"
    assert (tmp_path / "pages/board.md").read_text(encoding="utf-8").startswith("## 6 audits of 6 teachers")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('owner = "us"', "line 1: owner is not allowed here: defence, by, link are"),
        (
            '\nlink = "javascript:alert(1)"',
            "line 2: link is no text of at most 200 characters; a link begins with",
        ),
        (f'by = "{300 * "x"}"', "line 1: by is no text of at most 200 characters"),
        ("by = 3", "line 1: by is no text"),
        ("by", "is not valid TOML"),
    ],
)
def test_an_entry_says_only_what_is_allowed(said: str, told: str, zoo: list[Record], tmp_path: Path) -> None:
    there = kept(tmp_path, zoo[:1])
    (there / "u" / "entry.toml").write_text(said)
    with pytest.raises(UsageError) as error:
        board_of(there)
    assert told in str(error.value)


def test_what_makes_no_board_is_refused(zoo: list[Record], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no audits"):
        board_of(tmp_path)
    with pytest.raises(UsageError, match="needs audits"):
        board([])
    there = kept(tmp_path / "audits", zoo[:1])
    shutil.copytree(there / "u", there / "copy")
    with pytest.raises(UsageError, match=r"copy and .*u are the same audit; remove one"):
        board_of(there)
