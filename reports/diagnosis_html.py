"""Render a diagnosis as one page that needs no network, no script and no other file."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from reports import cluster_figures, figures, wording
from reports.bag import concentrations
from reports.diagnosis import DiagnosedPool, Diagnosis
from reports.html import environment


class Fact(NamedTuple):
    """A key number at the top of the page."""

    value: str
    label: str


def render(found: Diagnosis) -> str:
    """Return the page; equal diagnoses give equal text."""
    held_out, bag = found.pools[-1], concentrations(found.task_digest, found.sha256)
    drawn = {
        "cmi": figures.cmi_curve(found.pools, bag),
        "classes": figures.cmi_per_class(found.pools, found.classes, held_out.per_class_se),
        "triangle": cluster_figures.triangle(found, found.classes),
        "projection": cluster_figures.projection(found, found.classes),
    }
    rows = zip(found.classes, *(zip(p.per_class, p.per_class_se, strict=True) for p in found.pools), strict=True)
    return (
        environment()
        .get_template("cmi.html.j2")
        .render(
            found=found,
            figures={name: None if text is None else Markup(text) for name, text in drawn.items()},
            facts=_facts(held_out),
            rows=sorted(rows, key=lambda row: -1.0 if row[-1][0] is None else row[-1][0], reverse=True),
            peaks=[*map(figures.peak, found.pools), *figures.among(found.pools, bag)],
            bag=bag,
            wording=wording,
            cluster_figures=cluster_figures,
        )
    )


def _facts(pool: DiagnosedPool) -> list[Fact]:
    top, one = int(np.argmax(pool.cmi)), pool.temperatures.index(1.0)
    return [
        Fact(wording.percent(pool.accuracy), f"accuracy on {pool.images:,} held-out images"),
        Fact(
            wording.number(pool.cmi[one]),
            f"nats of CMI held out, 95 % interval {wording.within(pool.cmi[one], pool.se[one])}",
        ),
        Fact(wording.number(pool.cmi[top]), f"nats at most, at temperature {pool.temperatures[top]:g}"),
        Fact(wording.number(pool.ncmi[one], 4), f"NCMI, with Γ = {pool.gamma[one]:.2f} nats"),
    ]
