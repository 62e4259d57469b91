"""Every report is made from the record alone, the same bytes twice, whatever strangers chose as names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib
import pytest
from pages import HOSTILE, WORDS, Page, infested
from sample_record import sample_record

from reports import badge, cost_figures, figures, html, junit, markdown, wording
from reports.outputs import write_all
from reports.record import Interval, Record, Word, load, save

RENDERERS = (html.render, junit.render, markdown.render, badge.svg, badge.endpoint)


@pytest.fixture(scope="module")
def page() -> str:
    """Return the page of the sample."""
    return html.render(sample_record())


def bare(record: Record) -> Record:
    """Return the record of an audit in which nothing ran."""
    nothing = {"comparisons": (), "controls": (), "cmi": (), "ledger": (), "flags": (), "trials": ()}
    return record.model_copy(update=nothing)


@pytest.mark.parametrize("render", RENDERERS)
def test_a_report_is_the_same_bytes_twice_and_after_the_disk(render: Callable[[Record], str], tmp_path: Path) -> None:
    save(sample_record(), tmp_path / "record.json")
    assert render(sample_record()) == render(sample_record()) == render(load(tmp_path))


def test_figures_do_not_depend_on_the_users_matplotlib() -> None:
    before = figures.margins(sample_record())
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": False}):
        assert figures.margins(sample_record()) == before
        assert matplotlib.rcParams["font.size"] == 30


def test_names_stay_text_on_the_page() -> None:
    text = html.render(infested())
    read = Page(text)
    assert not {"iframe", "object", "embed", "img", "form", "base"} & {tag for tag, _ in read.tags}
    assert [sum(tag == one for tag, _ in read.tags) for one in ("style", "script")] == [1, 1]
    assert sum(tag == "svg" for tag, _ in read.tags) == text.count("</svg>") == 4
    for tag, attributes in read.tags:
        assert not [key for key in attributes if key.startswith("on")], tag
        for key in {"src", "href", "xlink:href", "action", "data"} & attributes.keys():
            assert re.match(r"#|data:,$", attributes[key] or ""), (tag, key)
    said = "".join(read.said)
    assert [name for name in HOSTILE.values() if html.visible(name) not in said] == []


def test_no_name_hides_or_turns_what_follows_it() -> None:
    text = html.render(infested())
    assert not set("\x00\x07\x1b\u202a\u202e\u2066\u2069") & set(text)
    assert "\\u202eמודל\\u202c مرحبا" in text
    assert html.visible("א b\n\tc 😀") == "א b\n\tc 😀"


def test_every_name_of_a_stranger_stands_apart_from_the_direction_of_its_neighbours() -> None:
    tags = [tag for tag, _ in Page(html.render(infested())).tags]
    assert tags.count("bdi") > 5 * len(HOSTILE)


def test_the_page_loads_nothing(page: str) -> None:
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-" in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)


def test_the_policy_allows_the_script_of_the_page_and_no_other(page: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert f"script-src '{html.digest(script)}'" in page
    assert len(re.findall(r"script-src|unsafe-inline|unsafe-eval", page)) == 2


def test_ids_of_the_page_are_unique_and_every_fragment_exists(page: str) -> None:
    tags = Page(page).tags
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {(a["href"] or "")[1:] for _, a in tags if (a.get("href") or "").startswith("#")}
    labelled = {a["aria-labelledby"] for _, a in tags if "aria-labelledby" in a}
    assert targets | labelled <= set(ids)


def test_every_figure_has_a_text_alternative_a_caption_and_a_table(page: str) -> None:
    tags = Page(page).tags
    drawings = [a for tag, a in tags if tag == "svg"]
    assert all(a["role"] == "img" and a["aria-label"] for a in drawings)
    names = [tag for tag, _ in tags]
    assert len(drawings) == names.count("figure") == names.count("figcaption") >= 4
    places = [i for i, tag in enumerate(names) if tag == "figure"]
    for start, end in zip(places, [*places[1:], len(names)], strict=True):
        assert names[start:end].index("details") < names[start:end].index("table")


DRAWN: dict[str, Callable[[Record], str | None]] = {
    "margins": figures.margins,
    "cmi": lambda record: figures.cmi_curve(record.cmi),
    "classes": lambda record: figures.cmi_per_class(record.cmi, record.task.classes),
    "costs": cost_figures.costs,
}


@pytest.mark.parametrize("prefix", DRAWN)
def test_a_figure_is_small_well_formed_and_clips_nothing(prefix: str) -> None:
    text = DRAWN[prefix](sample_record())
    assert text is not None
    assert len(text.encode()) < 30_000
    root = ET.fromstring(text)
    assert "clip-path" not in text
    assert {e.attrib["id"].split("-")[0] for e in root.iter() if "id" in e.attrib} <= {prefix}


def test_an_attack_far_below_does_not_squash_the_others() -> None:
    text = figures.margins(sample_record())
    assert text.count("off scale") == 2
    assert "−61.30" in text
    assert "+1.91 [+1.49, +2.33]" in text


def test_controls_stand_in_the_figure_of_margins_apart_from_attacks() -> None:
    text = figures.margins(sample_record())
    assert text.index("noise") < text.index("no teacher: controls") < text.index(">null<")
    assert "Controls, without a teacher: null +0.04, ce −0.61." in text
    assert "no teacher" not in figures.margins(sample_record().model_copy(update={"controls": ()}))


def test_there_is_no_cost_or_cmi_figure_without_data() -> None:
    empty = bare(sample_record())
    assert all(DRAWN[name](empty) is None for name in ("costs", "cmi", "classes"))
    page = html.render(empty)
    assert "Cost of stealing" not in page
    assert "CMI is defined on full probabilities only" in page


@pytest.mark.parametrize("render", RENDERERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_told_apart(render: Callable[[Record], str], value: float) -> None:
    record = sample_record()
    fields = dict.fromkeys(("mean", "se", "df", "low", "high", "lower", "upper", "p"), value)
    margin = Interval(**fields, seeds=1, images=1, discordant=0)
    first = record.comparisons[0].model_copy(update={"margin": margin})
    assert render(record.model_copy(update={"comparisons": (first, *record.comparisons[1:])}))


@pytest.mark.parametrize("word", WORDS)
def test_the_word_and_its_scope_come_first(word: Word) -> None:
    record = sample_record(word)
    said = Page(html.render(record)).said
    assert word in said
    assert markdown.render(record).startswith(f"## {word}: cmim.pt")
    assert record.verdict.scope in markdown.render(record)


def test_every_attack_status_and_reason_is_told(page: str) -> None:
    record = sample_record()
    for text in (page, markdown.render(record)):
        assert all(c.attack in text for c in record.comparisons)
        assert "identical to control" in text
    assert "+1.91" in page
    assert "86.03" in page


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_names_do_not_break_the_markdown_table(name: str) -> None:
    text = markdown.render(sample_record(hostile=name))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {10}
    assert len(rows) == 2 + 8
    assert "<" not in text
    assert "://" not in text
    assert sum(line.startswith("#") for line in text.splitlines()) == 5


def test_numbers_are_said_the_same_way_everywhere() -> None:
    assert wording.points(0.0142) == "+1.42"
    assert wording.points(-0.613) == "−61.30"
    assert wording.points(-0.00001) == "0.00"
    assert wording.probability(0.0004) == "< 0.001"
    assert wording.percent(0.8412) == "84.12\u202f%"
    assert wording.percent(None) == wording.MISSING
    assert wording.duration(3781) == "1 h 03 min"
    assert wording.parameters({"a": 4.0, "b": True, "c": None}) == "a=4, b=True, c=None"


def test_all_reports_are_written_and_the_record_is_not(tmp_path: Path, page: str) -> None:
    record = sample_record()
    paths = write_all(record, tmp_path / "out")
    assert {"report.html", "junit.xml", "summary.md", "attestation.json", "badge.svg", "badge.json"} <= {
        path.name for path in paths
    }
    assert sorted((tmp_path / "out").iterdir()) == sorted(paths)
    assert paths[0].read_text(encoding="utf-8") == page
    assert paths[0].stat().st_size < 150_000
