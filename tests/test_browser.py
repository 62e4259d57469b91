"""A real browser opens the page: it asks for nothing, complains of nothing, and fits a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sample_record import sample_record
from test_side_by_side import SHIPPED, infested

from audit.diagnose import diagnose
from audit.subjects import Opening
from reports import html
from reports.leaderboard import html as leaderboard_html
from reports.record import load

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
HOSTILE = "<script>alert(1)</script>" + "n" * 300


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
def diagnosis(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("cmi")
    diagnose(Opening("demo", "digits"), device="cpu", out=out, cache=kept, command="audit cmi", quiet=True)
    return (out / "cmi.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("hostile", [None, HOSTILE], ids=["plain", "hostile"])
def test_the_report_is_quiet_and_fits(
    browser: Any, tmp_path: Path, scheme: str, width: int, hostile: str | None
) -> None:
    quiet_and_fits(browser, html.render(sample_record(hostile=hostile)), tmp_path / "report.html", scheme, width)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_diagnosis_is_quiet_and_fits(browser: Any, tmp_path: Path, diagnosis: str, scheme: str, width: int) -> None:
    quiet_and_fits(browser, diagnosis, tmp_path / "cmi.html", scheme, width)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("count", [2, 9])
def test_audits_side_by_side_are_quiet_and_fit(
    browser: Any, tmp_path: Path, scheme: str, width: int, count: int
) -> None:
    page = leaderboard_html.render(infested(load(SHIPPED), count))
    quiet_and_fits(browser, page, tmp_path / "compare.html", scheme, width)


def quiet_and_fits(browser: Any, text: str, path: Path, scheme: str, width: int) -> None:
    path.write_text(text, encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for event in ("console", "pageerror", "dialog"):
        page.on(event, lambda message: said.append(str(message)))
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(255, 255, 255)",
            "dark": "rgb(21, 25, 30)",
        }[scheme]
    )
    page.close()
    assert asked == [path.as_uri()]
    assert said == []
