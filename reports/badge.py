"""Render the record's verdict as a badge: an SVG picture without dependencies, and an endpoint for shields.io."""

from __future__ import annotations

import json
import re
from typing import Final
from xml.sax.saxutils import escape

from reports.record import Record, Word
from reports.wording import worst

LABEL: Final = "distillation audit"
COLOURS: Final[dict[Word, str]] = {"UNDISTILLABLE": "#2a6f97", "DISTILLABLE": "#b3261e", "INCONCLUSIVE": "#5f6368"}
LONGEST: Final = 60  # at most, characters of a name
CAPITAL, OTHER, MARGIN = 7.7, 5.7, 6  # pixels: average character widths in Verdana, and the space beside a text

# Everything but characters that XML allows and that neither break lines nor change the text direction.
_UNFIT = re.compile(
    "[^\u0020-\u007e\u00a0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u200e\u200f]"
)


def message(record: Record) -> str:
    """Return the verdict with its suite and surfaces: the word alone would claim too much."""
    surfaces = [row.surface for row in record.surfaces] or [record.settings.surface]
    return f"{worst(record)} ({record.suite.name}, {_short(', '.join(surfaces))})"


def endpoint(record: Record) -> str:
    """Return the badge in the endpoint schema of shields.io."""
    colour = COLOURS[worst(record)].removeprefix("#")
    told = {"schemaVersion": 1, "label": LABEL, "message": message(record), "color": colour}
    return json.dumps(told, indent=1) + "\n"


def svg(record: Record) -> str:
    """Return the badge as a picture, with a text alternative that names the teacher."""
    said, colour = message(record), COLOURS[worst(record)]
    left, right = (_width(text) + 2 * MARGIN for text in (LABEL, said))
    title = escape(f"{LABEL} of {_short(record.teacher.name)}: {said}")
    texts = "".join(
        f'<text x="{x + MARGIN}" y="14" textLength="{width - 2 * MARGIN}" lengthAdjust="spacingAndGlyphs">'
        f"{escape(text)}</text>"
        for x, width, text in ((0, left, LABEL), (left, right, said))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-labelledby="distill-audit-badge"><title id="distill-audit-badge">{title}</title>'
        f'<rect width="{left}" height="20" fill="#333"/><rect x="{left}" width="{right}" height="20" fill="{colour}"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">{texts}</g></svg>\n'
    )


def _width(text: str) -> int:
    return round(sum(CAPITAL if character.isupper() else OTHER for character in text))


def _short(name: str) -> str:
    """Return an untrusted name on one line, without characters that break lines or change the text direction."""
    fit = _UNFIT.sub("\ufffd", name)
    return fit if len(fit) <= LONGEST else fit[: LONGEST - 1] + "…"
