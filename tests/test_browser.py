"""A real browser opens the page: it asks for nothing, complains of nothing, fits a phone, and can be used."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import infested, infested_board, infested_panels
from sample_clusters import answers, with_pools
from sample_limit import HOSTILE, document
from sample_record import large_record, sample_record
from shipped import DEMO

from audit.diagnosis.diagnose import diagnose
from audit.plan.options import Options
from reports import html
from reports.board import html as board_html
from reports.leaderboard import html as leaderboard_html
from reports.limit import html as limit_html
from reports.record import load

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PAPER = {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 25, 30)"}
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, kept: Path) -> Path:
    """Return a folder of every page: of a small, a large and an infested record with clusters, and of a diagnosis."""
    folder = tmp_path_factory.mktemp("pages")
    hostile = infested()
    hostile = with_pools(hostile, {"validation": answers(len(hostile.task.classes), 5, 0)})
    records = {"sample": sample_record(), "large": large_record(), "infested": hostile}
    for name, record in records.items():
        (folder / f"{name}.html").write_text(html.render(record), encoding="utf-8")
    board = infested_board(load(DEMO), 9)
    (folder / "limit.html").write_text(limit_html.render(document(HOSTILE)), encoding="utf-8")
    (folder / "compare.html").write_text(leaderboard_html.render(board), encoding="utf-8")
    (folder / "board.html").write_text(board_html.render(infested_panels(load(DEMO))), encoding="utf-8")
    diagnose(
        Options(teacher="demo", data="digits", device="cpu", out=folder, cache=kept, quiet=True), command="audit cmi"
    )
    return folder


@pytest.fixture
def opened(browser: Any, folder: Path) -> Iterator[Open]:
    """Return what opens a page at a width in a theme; afterwards nothing was asked for, and nothing complained of."""
    asked: list[str] = []
    said: list[str] = []
    expected: list[str] = []
    contexts = []

    def open_(name: str, width: int = 1280, scheme: str = "light", **settings: bool) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for event in ("console", "pageerror", "dialog"):
            page.on(event, lambda message: said.append(str(message)))
        expected.append((folder / f"{name}.html").as_uri())
        page.goto(expected[-1])
        return page

    yield open_
    for context in contexts:
        context.close()
    assert asked == expected
    assert said == []


@pytest.mark.parametrize("name", ["sample", "large", "infested", "cmi", "compare", "limit", "board"])
def test_a_page_is_quiet_and_fits_every_width_in_both_themes(opened: Open, name: str) -> None:
    for scheme in PAPER:
        page = opened(name, scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == PAPER[scheme]
        for unfolded in (False, True):
            page.evaluate(f"document.querySelectorAll('details').forEach(d => d.open = {str(unfolded).lower()})")
            for width in (390, 768, 1280):
                page.set_viewport_size({"width": width, "height": 900})
                assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["infested", "cmi", "compare", "limit", "board"])
@pytest.mark.parametrize("scheme", PAPER)
def test_axe_finds_nothing_serious(opened: Open, name: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
    # The page's own policy forbids every script but its own.
    page = opened(name, scheme=scheme, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.evaluate(axe.AXE_FILE_PATH.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = {(v["id"], n["html"][:90]) for v in found if v["impact"] in {"serious", "critical"} for n in v["nodes"]}
    assert serious == set()


@pytest.mark.parametrize("name", ["large", "infested"])
def test_every_figure_has_a_text_alternative_and_a_table_behind_it(opened: Open, name: str) -> None:
    page = opened(name)
    page.evaluate("document.querySelectorAll('details:has(figure)').forEach(d => d.open = true)")
    drawn = page.locator("svg[role=img]")
    assert drawn.count() == page.locator("figure").count() >= 4
    for figure, alternative in zip(page.locator("figure").all(), drawn.all(), strict=True):
        assert len(alternative.get_attribute("aria-label") or "") > 20
        data = figure.locator("xpath=following-sibling::details[1]")
        assert not data.locator("table").is_visible()
        data.locator("summary").press("Enter")
        assert data.locator("tbody tr").first.is_visible()


def names(page: Any) -> list[str]:
    """Return the attacks that are shown, in their order."""
    found: list[str] = page.locator("#attack-table tbody:visible tr:first-child th > bdi").all_text_contents()
    return found


def test_a_table_of_the_board_is_sorted_by_any_column(opened: Open) -> None:
    page = opened("board")
    table = page.locator("table.sorts").first
    shown: list[str] = table.locator("tbody th bdi").all_text_contents()
    button = table.locator("thead button", has_text="Every attack gains less than")
    button.click()
    assert table.locator("tbody th bdi").all_text_contents() != shown
    button.click()
    assert table.locator("tbody th bdi").all_text_contents() == shown


@pytest.mark.parametrize("click", ["mouse", "keyboard"])
def test_the_table_of_attacks_is_sorted_by_any_column(opened: Open, click: str) -> None:
    page = opened("large")
    rows = {c.attack: c for c in large_record().comparisons}

    def sort(column: str) -> str | None:
        button = page.get_by_role("button", name=column, exact=True)
        button.click() if click == "mouse" else button.press("Enter")
        found: str | None = button.locator("..").get_attribute("aria-sort")
        return found

    assert sort("Attack") == "ascending"
    assert names(page)[:3] == ["avg", "avg-3", "avg-10"]
    assert sort("Knockoff accuracy") == "descending"
    accuracy = [rows[name].knockoff.accuracy for name in names(page)]
    assert accuracy[-1] is None
    assert accuracy[:-1] == sorted((a for a in accuracy if a is not None), reverse=True)
    assert sort("Knockoff accuracy") == "ascending"
    accuracy = [rows[name].knockoff.accuracy for name in names(page)]
    assert accuracy[-1] is None
    assert accuracy[:-1] == sorted(a for a in accuracy if a is not None)
    assert page.locator("[aria-sort]").count() == 1


def test_the_table_of_attacks_is_filtered_by_word_and_outcome_and_says_how_much_is_left(opened: Open) -> None:
    page = opened("large")
    told = page.get_by_role("status")
    assert told.text_content() == "30 of 30 attacks shown"
    page.get_by_label("Filter by any word").focus()
    page.keyboard.type("Zhao 2203.08679")
    assert {name.partition("-")[0] for name in names(page)} == {"dkd"}
    assert told.text_content() == f"{len(names(page))} of 30 attacks shown"
    page.get_by_label("Outcome").select_option("gains")
    assert set(names(page)) == {"dkd", "dkd-1"}
    page.keyboard.press("Shift+Tab")
    page.get_by_label("Filter by any word").fill("no such word")
    assert told.text_content() == "0 of 30 attacks shown"


def test_an_attack_unfolds_by_keyboard_and_stays_on_a_phone(opened: Open) -> None:
    page = opened("large", width=390)
    summary = page.locator("#attack-table summary").first
    summary.press("Enter")
    box = page.locator("#attack-table details[open] dl").bounding_box()
    assert box["height"] > 100
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


@pytest.mark.parametrize("name", ["sample", "large"])
def test_the_page_is_complete_without_its_script(opened: Open, name: str) -> None:
    said = "document.body.innerText"
    scripted, plain = opened(name), opened(name, java_script_enabled=False)
    assert not plain.locator("#attack-tools").is_visible()
    assert plain.locator("#attack-table tbody:visible").count() == scripted.locator("#attack-table tbody").count()
    folded = plain.locator("#attack-table details").first
    assert not folded.locator("dl").is_visible()
    folded.locator("summary").click()
    assert folded.locator("dl").is_visible()
    for text in scripted.evaluate(f"{said}.split('\\n').filter(line => line.length > 40)"):
        assert text in plain.locator("body").inner_text()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_the_page_is_printed_whole_and_light_without_its_tools(opened: Open, tmp_path: Path, scripts: bool) -> None:
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed")
    page = opened("large", scheme="dark", java_script_enabled=scripts)
    if scripts:
        page.get_by_label("Filter by any word").fill("dkd")
    page.pdf(path=tmp_path / "page.pdf", prefer_css_page_size=True)
    printed = pypdf.PdfReader(tmp_path / "page.pdf").pages
    assert len(printed) == 3  # thirty attacks and ten surfaces; ten attacks are two pages
    assert all(leaf.mediabox.width < leaf.mediabox.height for leaf in printed)
    first, *others = ("".join(unicodedata.normalize("NFKC", leaf.extract_text()).split()) for leaf in printed)
    text = first + "".join(others)
    record = large_record()
    assert "Filterby" not in text
    missing = [w for w in ("DISTILLABLE", "Scope:", "marginoverthecontrol,points", "offscale", "1/3") if w not in first]
    assert not missing, first
    assert all(comparison.attack in text for comparison in record.comparisons)
    assert record.flags[0].id in text
    assert "bestof6onvalidation" not in text
    assert "Digestofthesuite" not in text


def test_what_is_unfolded_is_printed_and_ten_attacks_are_two_pages(opened: Open, tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed")
    page = opened("sample")
    page.pdf(path=tmp_path / "short.pdf", prefer_css_page_size=True)
    assert len(pypdf.PdfReader(tmp_path / "short.pdf").pages) == 2
    page = opened("large")
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.pdf(path=tmp_path / "whole.pdf", prefer_css_page_size=True)
    printed = pypdf.PdfReader(tmp_path / "whole.pdf").pages
    assert 10 <= len(printed) <= 30
    text = "".join(unicodedata.normalize("NFKC", "".join(leaf.extract_text().split())) for leaf in printed)
    record = large_record()
    assert text.count("bestof6onvalidation") == sum(c.knockoff.tuned_over > 0 for c in record.comparisons)
    assert all(f"class{i}" in text for i in range(100))


@pytest.mark.parametrize(("width", "height", "most"), [(1400, 900, 7), (390, 844, 12)])
def test_the_page_of_ten_attacks_is_short(opened: Open, width: int, height: int, most: int) -> None:
    page = opened("sample", width=width)
    assert page.evaluate("document.documentElement.scrollHeight") <= most * height


def test_on_a_phone_every_number_is_seen_and_figures_are_lists(opened: Open) -> None:
    page = opened("large", width=390)
    assert not page.locator("#margins ~ figure svg, #costs ~ figure svg").first.is_visible()
    assert page.locator("#margins ~ .instead li").count() == 29 + 6
    for box in page.locator("#attack-table td:visible, .instead:visible li, .sentence, .marks li").all():
        found = box.bounding_box()
        assert found["x"] >= 0
        assert found["x"] + found["width"] <= 390


@pytest.mark.parametrize("name", ["sample", "large", "infested", "cmi", "compare", "limit", "board"])
def test_nothing_is_cut_off_on_paper(opened: Open, name: str) -> None:
    paper = 210 - 2 * 12  # mm
    width = round(paper / 25.4 * 96)
    page = opened(name, width=width, scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    boxes = "[...document.querySelectorAll('td, th, svg, pre, dd')].map(e => e.getBoundingClientRect().right)"
    assert page.evaluate(f"Math.max(...{boxes})") <= width + 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == PAPER["light"]
