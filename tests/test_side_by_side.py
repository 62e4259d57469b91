"""Audits side by side: what can be compared, who gives away least, and how sure the difference is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import call
from drawn_students import students
from numpy.typing import NDArray
from pages import Page, infested_board
from record_changes import another, changed, updated
from sample_record import sample_record
from shipped import DEMO

from audit.finished.compared import compare
from audit.finished.side_by_side import NamedRecord, side_by_side
from audit.statistics.compare import differing, paired
from reports.html import visible
from reports.leaderboard import figure, html, markdown
from reports.leaderboard import wording as telling
from reports.leaderboard.board import Leaderboard
from reports.record import Record, load, save
from reports.wording import points, span
from teachers.errors import UsageError

Bits = NDArray[np.bool_]


@pytest.fixture(scope="module")
def first() -> Record:
    return load(DEMO)


@pytest.fixture(scope="module")
def second(first: Record) -> Record:
    return another(first, "a", lift=0.1)


def board(*records: Record) -> Leaderboard:
    return side_by_side([NamedRecord(f"place {i}", record) for i, record in enumerate(records)])


def four(seed: int, seeds: tuple[int, int] = (4, 4), images: int = 60) -> tuple[tuple[Bits, Bits], tuple[Bits, Bits]]:
    drawn = students(np.random.default_rng(seed), max(seeds), images, [0.75, 0.6, 0.7, 0.6], seed_sd=0.2, image_sd=0.4)
    return (drawn[0][: seeds[0]], drawn[1][: seeds[0]]), (drawn[2][: seeds[1]], drawn[3][: seeds[1]])


def test_a_difference_of_margins_agrees_with_statsmodels() -> None:
    import pandas
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    (a, c), (b, e) = four(1)
    d = (a.astype(float) - c) - (b.astype(float) - e)
    s, i = np.indices(d.shape)
    frame = pandas.DataFrame({"d": d.ravel(), "s": s.ravel(), "i": i.ravel()})
    theirs = anova_lm(ols("d ~ C(s) + C(i)", frame).fit())["mean_sq"]
    ours = differing((a, c), (b, e))
    assert [ours.between_seeds, ours.between_images, ours.residual] == pytest.approx(list(theirs))
    assert ours.mean == pytest.approx(paired(a, c).mean - paired(b, e).mean) == pytest.approx(d.mean())
    assert ours.discordant == np.count_nonzero(d) / 4


def test_controls_that_two_margins_share_cancel() -> None:
    (a, c), (b, _) = four(2)
    assert differing((a, c), (b, c)) == paired(a, b).anywhere()


@pytest.mark.parametrize("seeds", [(3, 5), (5, 3)])
def test_margins_of_unequally_many_seeds_differ_by_what_they_are(seeds: tuple[int, int]) -> None:
    one, other = four(3, seeds)
    found, mirrored = differing(one, other), differing(other, one)
    assert found.mean == pytest.approx(paired(*one).mean - paired(*other).mean)
    assert found.mean == -mirrored.mean
    assert found.se == mirrored.se
    assert found.crossed > 0


@pytest.mark.parametrize("seeds", [(5, 5), (3, 6)])
def test_the_interval_of_a_difference_holds_the_true_one(seeds: tuple[int, int]) -> None:
    """Fresh seeds and images: accuracies of 75 and 70 % over controls of 60 %, so the margins differ by 5 points."""
    hits = 0
    for seed in range(300):
        low, high = differing(*four(100 + seed, seeds, images=200)).interval(0.95)
        hits += low <= 0.05 <= high
    assert hits / 300 >= 0.92, hits


def test_margins_on_other_images_are_refused() -> None:
    (a, c), (b, e) = four(4)
    with pytest.raises(ValueError, match="the same seeds and images"):
        differing((a, c), (b[:, 1:], e[:, 1:]))
    with pytest.raises(ValueError, match="the same seeds and images"):
        differing((a, c), (b, e[1:]))


def test_the_leaderboard_begins_with_who_gives_away_least(first: Record, second: Record) -> None:
    third = another(first, "b", name="other", lift=0.3)
    found = board(third, first, second)
    assert [e.name for e in found.entries] == ["demo", "next", "other"]
    largest = [e.margin.mean for e in found.entries if e.margin is not None]
    assert largest == sorted(largest)
    assert found.pair is None
    assert found.differences == ()
    assert found.entries[0].above is None
    for before, after in zip(found.entries, found.entries[1:], strict=False):
        assert after.above is not None
        assert before.margin is not None
        assert after.margin is not None
        assert after.above.mean == pytest.approx(after.margin.mean - before.margin.mean)


def test_a_comparison_begins_with_a_sentence_and_equals_share_a_rank(first: Record, second: Record) -> None:
    equal = first.model_copy(update={"audit": "e" * 64, "teacher": first.teacher.model_copy(update={"name": "copy"})})
    found = board(first, equal)
    assert [e.rank for e in found.entries] == [1, 1]
    assert telling.sentence(found) == "demo and copy cannot be told apart: 0.00 (no interval) points."
    far = another(first, "b", name="far", lift=0.3)
    found = board(first, far)
    assert [e.rank for e in found.entries] == [1, 2]
    gap = telling.gap(found.entries[1].above)
    assert telling.sentence(found) == f"demo gives away less than far: {gap} points."
    found = board(far, first, equal)
    assert [(e.name, e.rank) for e in found.entries] == [("demo", 1), ("copy", 1), ("far", 3)]
    least = points(found.entries[0].margin.mean if found.entries[0].margin else None, sign=False)
    assert telling.sentence(found) == (
        f"demo gives away least, {least} points, but one more of 3 cannot be told apart from it: they share its rank."
    )
    for text in (html.render(found), markdown.render(found)):
        assert "cannot be told apart from it" in text


def test_ranks_are_by_the_difference_to_the_first_of_a_rank(first: Record) -> None:
    """A chain of neighbours that cannot be told apart is no single rank."""
    chain = [another(first, f"{i}", name=f"step {i}", lift=0.02 * i) for i in range(8)]
    found = board(*chain).entries
    assert found[0].rank == 1 < found[-1].rank
    for e in found[1:]:
        assert e.above is not None
    assert [e.rank for e in found] == sorted(e.rank for e in found)


def test_an_entry_says_what_its_record_says(first: Record, second: Record) -> None:
    mine = next(e for e in board(second, first).entries if e.name == "demo")
    best = first.comparisons[0]
    assert (mine.strongest, mine.margin, mine.corrected_lower, mine.p_holm) == (
        "soft-kd",
        best.margin,
        best.corrected_lower,
        best.p_holm,
    )
    assert (mine.word, mine.queries, mine.accuracy) == (
        "INCONCLUSIVE",
        best.knockoff.queries,
        first.teacher.test_accuracy,
    )
    held_out = next(pool for pool in first.cmi if pool.name == "validation")
    assert mine.cmi == max(held_out.cmi)
    assert mine.cmi_temperature == held_out.temperatures[held_out.cmi.index(max(held_out.cmi))]
    assert (mine.judged, mine.missing) == (4, ())
    assert mine.flags == tuple(f.id for f in first.flags if f.caps != "nothing")


def test_every_attack_stands_in_every_column(first: Record, second: Record) -> None:
    found = board(first, second)
    assert {line.attack for line in found.lines} == {c.attack for c in first.comparisons}
    for line in found.lines:
        for e, margin in zip(found.entries, line.margins, strict=True):
            record = first if e.name == "demo" else second
            assert margin == next(c.margin for c in record.comparisons if c.attack == line.attack)


def test_two_audits_differ_by_the_second_less_the_first(first: Record, second: Record) -> None:
    there, back = board(first, second), board(second, first)
    assert there.pair == ("demo", "next")
    assert back.pair == ("next", "demo")
    assert there.entries == back.entries
    before = {c.attack: c.margin for c in first.comparisons}
    after = {c.attack: c.margin for c in second.comparisons}
    mirrored = {d.attack: d for d in back.differences}
    assert len(there.differences) == 4
    for d in there.differences:
        one, other = after[d.attack], before[d.attack]
        assert one is not None
        assert other is not None
        assert d.mean == pytest.approx(one.mean - other.mean) == pytest.approx(-mirrored[d.attack].mean)
        assert d.low <= d.mean <= d.high
        assert d.p_holm is not None
        assert d.p <= d.p_holm
        assert d.reliable


def test_shared_controls_make_the_difference_surer_than_the_margins(first: Record, second: Record) -> None:
    d = next(d for d in board(first, second).differences if d.attack == "soft-kd")
    ses = [c.margin.se for r in (first, second) for c in r.comparisons if c.attack == "soft-kd" and c.margin]
    assert d.se < np.hypot(*ses)


def test_students_that_agree_everywhere_have_no_interval(first: Record) -> None:
    found = board(first, another(first, "a"))
    assert [d.mean for d in found.differences] == [0] * 4
    assert not any(d.reliable for d in found.differences)
    assert "0.00 (no interval)" in markdown.render(found)


def altered(record: Record, part: str, **values: Any) -> Record:
    return record.model_copy(update={part: changed(getattr(record, part), **values)})


def without(record: Record, attack: str) -> Record:
    return record.model_copy(update={"comparisons": tuple(c for c in record.comparisons if c.attack != attack)})


def revised(record: Record, attack: str) -> Record:
    trials = [updated(t, {"cell.version": "7"}) if t.cell.technique == attack else t for t in record.trials]
    return record.model_copy(update={"trials": tuple(trials)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda r: altered(r, "suite", name="full-2", digest="f" * 64),
            r"suite is smoke-1 \(d945.*\) in the first and",
        ),
        (lambda r: altered(r, "suite", digest="f" * 64), r"suite is smoke-1 \(d945.*\) .* and smoke-1 \(ffff"),
        (lambda r: updated(r, {"design": 4}), "design version is 3 in the first and 4 in the second"),
        (lambda r: altered(r, "task", name="digits", digest="f" * 64), r"task is glyphs \(0632.* and digits \(ffff"),
        (lambda r: altered(r, "task", pool_digest="f" * 64), "attacker's data is 3100 images .* and 3100 images"),
        (lambda r: altered(r, "settings", student="cnn"), "student is strided-8-16-32 in the first and cnn in the"),
        (lambda r: altered(r, "settings", surface="label"), "surface is probs in the first and label in the second"),
        (lambda r: altered(r, "settings", shots=0.1), "shots is 1 in the first and 0.1 in the second"),
        (lambda r: altered(r, "settings", labels=0.1), "labels is 1 in the first and 0.1 in the second"),
        (
            lambda r: altered(r, "settings", drop_classes=("7",)),
            "drop-classes is none in the first and 7",
        ),
        (lambda r: altered(r, "settings", budget=5000), "budget is none in the first and 5,000 in the second"),
        (lambda r: altered(r, "settings", surrogate="other"), "surrogate is procedural in the first and other"),
        (lambda r: without(r, "avg"), "attack avg is requested in the first and not requested in the second"),
        (lambda r: revised(r, "avg"), "attack avg is version 1 in the first and version 7 in the second"),
    ],
)
def test_audits_of_another_question_are_refused_with_the_first_difference(
    first: Record, second: Record, change: Any, sentence: str
) -> None:
    with pytest.raises(UsageError, match=f"place 0 and place 1 cannot be compared: {sentence}"):
        board(first, change(second))


def test_fewer_than_two_and_the_same_twice_are_refused(first: Record) -> None:
    with pytest.raises(UsageError, match="two audits or more"):
        board(first)
    with pytest.raises(UsageError, match="place 0 and place 1 are the same audit"):
        board(first, first)


def test_teachers_of_one_name_are_told_apart(first: Record) -> None:
    def called(*records: Record) -> list[str]:
        return sorted(e.name for e in board(*records).entries)

    a, b, same = (another(first, *of) for of in (("a", "demo"), ("b", "demo"), ("c", "demo", 0.0, "a")))
    assert called(a, another(first, "b", "next")) == ["demo", "next"]
    assert called(a, b) == ["demo (aaaaaaaa)", "demo (bbbbbbbb)"]
    assert called(a, same) == ["demo (audit aaaaaaaa)", "demo (audit cccccccc)"]


def test_a_record_without_a_judged_attack_comes_last_and_says_why(first: Record, second: Record) -> None:
    gone = {"status": "failed", "margin": None, "knockoff.students": ()}
    rows = tuple(updated(row, gone) for row in second.comparisons)
    found = board(second.model_copy(update={"comparisons": rows}), first)
    assert [e.name for e in found.entries] == ["demo", "next"]
    assert found.entries[1].margin is None
    assert len(found.entries[1].missing) == 4
    assert found.differences == ()
    for text in (html.render(found), markdown.render(found)):
        assert "not judged: soft-kd (failed)" in " ".join(text.replace("&#40;", "(").split())


@pytest.fixture
def folders(first: Record, second: Record, tmp_path: Path) -> list[str]:
    save(second, tmp_path / "next" / "record.json")
    save(first, tmp_path / "one.json")
    return [str(tmp_path / "one.json"), str(tmp_path / "next")]


def test_the_command_prints_and_writes(
    capsys: pytest.CaptureFixture[str], folders: list[str], tmp_path: Path, first: Record
) -> None:
    out = tmp_path / "out"
    code, said, _ = call(capsys, "compare", *folders, "--out", str(out))
    assert code == 0
    assert "2 audits of glyphs side by side" in said
    assert "Margins of next minus those of demo" in said
    assert sorted(p.name for p in out.iterdir()) == ["compare.html", "compare.md"]
    code, said, _ = call(capsys, "compare", *folders, "--json")
    told = json.loads(said)
    assert [e["name"] for e in told["entries"]] == ["demo", "next"]
    assert told["files"] == []
    code, said, _ = call(capsys, "compare", *folders, "--out", str(tmp_path / "md"), "--format", "md")
    assert [p.name for p in (tmp_path / "md").iterdir()] == ["compare.md"]


def test_a_name_acts_on_no_terminal(capsys: pytest.CaptureFixture[str], first: Record, tmp_path: Path) -> None:
    name = "[bold]x[/bold]\x1b[2J"
    for i, record in enumerate((first, another(first, "a", name, lift=0.1))):
        save(record, tmp_path / str(i) / "record.json")
    code, said, _ = call(capsys, "compare", str(tmp_path / "0"), str(tmp_path / "1"))
    assert code == 0
    assert "Margins of [bold]x[/bold][2J minus those of demo:" in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("more", "code", "sentence"),
    [
        (["--format", "md"], 2, "give it with --out"),
        (["--format", "pdf", "--out", "x"], 2, "unknown format 'pdf'; there are html, md"),
        (["nowhere"], 4, "give the folder that `audit run` wrote"),
        (["--out", "{one}"], 2, "is a file; give a folder"),
        (["--out", "{one}/x"], 4, "cannot be written (Not a directory); give another folder with --out"),
    ],
)
def test_a_mistake_gets_one_sentence(
    capsys: pytest.CaptureFixture[str], folders: list[str], more: list[str], code: int, sentence: str
) -> None:
    got, said, err = call(capsys, "compare", *folders, *(word.format(one=folders[0]) for word in more))
    assert (got, said, err.count("\n")) == (code, "", 1)
    assert sentence in err


@pytest.mark.parametrize("count", [2, 4, 9])
def test_names_stay_text_and_the_page_loads_nothing(first: Record, count: int) -> None:
    found = infested_board(first, count)
    text = html.render(found)
    read = Page(text)
    assert not {"script", "iframe", "object", "embed", "img", "form", "base"} & {tag for tag, _ in read.tags}
    assert sum(tag == "svg" for tag, _ in read.tags) == sum(tag == "figure" for tag, _ in read.tags) == 1
    assert not [key for _, attributes in read.tags for key in attributes if key.startswith("on")]
    drawing = next(attributes for tag, attributes in read.tags if tag == "svg")
    assert (drawing["role"], bool(drawing["aria-label"])) == ("img", True)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    said = "".join(read.said)
    assert all(str(visible(e.name)) in said for e in found.entries)
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for tag, a in read.tags if tag == "a"} <= set(ids)
    summary = markdown.render(found)
    assert "<" not in summary
    assert "://" not in summary
    rows = [line for line in summary.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows[: 2 + count]} == {14}
    assert {row.count("|") for row in rows[2 + count : 4 + count + 4]} == {count + 2}


def test_the_page_is_the_same_twice_and_small_for_a_zoo(first: Record) -> None:
    zoo = [altered(first.model_copy(update={"audit": f"{i:064x}"}), "teacher", name=f"release-{i}") for i in range(30)]
    found = board(*zoo)
    page = html.render(found)
    assert page == html.render(found)
    assert len(page.encode()) < 400_000
    assert "url(" not in page
    assert "@import" not in page


def test_the_figure_has_a_mark_for_every_margin_of_few_audits_and_the_largest_of_many(first: Record) -> None:
    few, many = (board(*[another(first, f"{i:x}", f"v{i}", i / 50) for i in range(1, n)]) for n in (4, 8))
    drawn = figure.margins(few)
    assert [drawn.count(f">{name}</text>") for name in ("v1", "v2", "v3", "soft-kd", "knockoff")] == [1] * 5
    drawn = figure.margins(many)
    assert [drawn.count(f">{e.name}</text>") for e in many.entries] == [1] * 7
    assert "soft-kd" not in drawn
    for e in many.entries:
        assert e.margin is not None
        assert f"{points(e.margin.mean)} {span(e.margin)}" in drawn


def test_rows_without_students_are_compared_without_differences() -> None:
    found = board(sample_record(), sample_record().model_copy(update={"audit": "a" * 64}))
    assert found.differences == ()
    assert all(e.above is None for e in found.entries)
    assert "do not name the students" in html.render(found)


def test_records_are_read_from_folders_and_files(folders: list[str]) -> None:
    found, written = compare([Path(place) for place in folders])
    assert written == []
    assert [e.name for e in found.entries] == ["demo", "next"]
