"""Figures that are drawn once, however many records show them: drawing is most of writing or verifying a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from hashlib import sha256
from types import ModuleType

import pytest

from reports import cluster_figures, cost_figures, figures
from reports.record import Record

Draw = Callable[..., str | None]


def _of_record(draw: Draw) -> Draw:
    drawn: dict[bytes, str | None] = {}

    @wraps(draw)
    def once(record: Record) -> str | None:
        digest = sha256(record.model_dump_json().encode()).digest()
        if digest not in drawn:
            drawn[digest] = draw(record)
        return drawn[digest]

    return once


ONCE: dict[tuple[ModuleType, str], Draw] = {
    (figures, "margins"): _of_record(figures.margins),
    (cost_figures, "costs"): _of_record(cost_figures.costs),
    (figures, "cmi_curve"): lru_cache(figures.cmi_curve),
    (figures, "cmi_per_class"): lru_cache(figures.cmi_per_class),
    (cluster_figures, "triangle"): lru_cache(cluster_figures.triangle),
    (cluster_figures, "projection"): lru_cache(cluster_figures.projection),
}


@contextmanager
def drawn_once() -> Iterator[None]:
    """Let pages that show the same hold the same figures."""
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), draw in ONCE.items():
            patch.setattr(module, name, draw)
        yield
