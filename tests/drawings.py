"""Figures of equal records, drawn once: drawing takes most of the time of writing or verifying a page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import pytest
from markupsafe import Markup

from reports import html
from reports.bag import Concentrations
from reports.record import Record

DRAWN: dict[bytes, dict[str, Markup | None]] = {}  # by the digest of the record
_draw = html._figures


def _figures(record: Record, bag: Concentrations | None) -> dict[str, Markup | None]:
    digest = sha256(record.model_dump_json().encode()).digest()
    if digest not in DRAWN:
        DRAWN[digest] = _draw(record, bag)
    return DRAWN[digest]


@contextmanager
def drawn_once() -> Iterator[None]:
    """Let pages of equal records hold the same figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html, "_figures", _figures)
        yield
