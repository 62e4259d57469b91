"""Take the pictures of the README: the report of an audit, as Chromium shows its top.

Needs the [browser] extra and a `chromium` on the path. The README shows an ordinary teacher of the reference bag:

    audit teach plain --data glyphs --out plain-0.pt
    audit run --teacher plain-0.pt --effort bag --out DIR && python docs/pictures.py DIR
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final, Literal

from PIL import Image
from playwright.sync_api import Browser, ViewportSize, sync_playwright

from reports import html
from reports.record import load

PICTURES: Final[dict[str, Literal["light", "dark"]]] = {"report.png": "light", "report-dark.png": "dark"}
SIZE: Final = ViewportSize(width=1240, height=1000)
SCALE: Final = 1.25
COLOURS: Final = 96  # of a picture: enough for text and lines


def take(browser: Browser, page: str, scheme: Literal["light", "dark"]) -> bytes:
    """Return the top of a page as a small PNG."""
    tab = browser.new_page(viewport=SIZE, color_scheme=scheme, device_scale_factor=SCALE)
    tab.goto(page)
    shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    tab.close()
    written = io.BytesIO()
    shot.quantize(COLOURS, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return written.getvalue()


def main() -> None:
    """Write every picture beside this file."""
    text = html.render(load(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        page = Path(place) / "report.html"
        page.write_text(text, encoding="utf-8")
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for file, scheme in PICTURES.items():
            path = Path(__file__).with_name(file)
            path.write_bytes(take(browser, page.as_uri(), scheme))
            print(path)
        browser.close()


if __name__ == "__main__":
    main()
