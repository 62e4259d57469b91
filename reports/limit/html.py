"""Render a limit as one page that needs no network, no script and no other file."""

from __future__ import annotations

from markupsafe import Markup

from reports import frameworks
from reports.html import environment
from reports.limit import figure, wording
from reports.limit.document import Limit


def render(limit: Limit) -> str:
    """Return the page; equal documents give equal text."""
    drawn = {"limit": Markup(figure.drawn(limit))}  # ElementTree has escaped the names in it
    return (
        environment()
        .get_template("limit.html.j2")
        .render(
            limit=limit,
            figures=drawn,
            telling=wording,
            frameworks=frameworks.sized(" ".join(wording.sentences(limit))),
        )
    )
