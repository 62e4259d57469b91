"""Render the record as one page that needs no network and no other file, and is complete without its script."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from functools import cache
from importlib import resources
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports import answer, cluster_figures, controls, cost_figures, figures, frameworks, glossary, wording
from reports.bag import Concentrations, concentrations
from reports.policy_outcome import PolicyOutcome
from reports.record import Record


class ClassRow(NamedTuple):
    """One class's CMI at temperature 1 on each pool."""

    name: str
    cmi: tuple[float | None, ...]


def render(record: Record, policy: PolicyOutcome | None = None) -> str:
    """Return the report as HTML; equal records give equal text. `policy`: what a policy said of it."""
    bag = concentrations(record.task.digest, record.teacher.sha256)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            record=record,
            figures=_figures(record, bag),
            bag=bag,
            answer=answer,
            policy=policy,
            marks=answer.marks(record),
            tolerance=f"{100 * record.verdict.delta:g}",
            reasons=[reason for reason in record.verdict.reasons if reason not in _raised(record)],
            comparisons=wording.ranked(record),
            outcomes=sorted({wording.outcome(row, record) for row in record.comparisons}),
            ledger={c.attack: [row for row in record.ledger if row.attack == c.attack] for c in record.comparisons},
            everything=[*wording.ranked(record), *record.controls],
            classes=_classes(record),
            peaks=[figures.peak(pool) for pool in record.cmi if pool.name != "validation"],
            standing=[
                *(figures.peak(pool) for pool in record.cmi if pool.name == "validation"),
                *figures.among(record.cmi, bag),
            ],
            totals=wording.totals(record.ledger),
            diverged=sum(trial.diverged for trial in record.trials),
            wording=wording,
            controls=controls,
            glossary=glossary,
            frameworks=frameworks,
            script=script("sort", "report"),
            cluster_figures=cluster_figures,
            steals=cost_figures.drawn(record),
            asked=sum(bool(wording.curve(row)) for row in record.comparisons),
        )
    )


@cache
def script(*names: str) -> Markup:
    """Return the scripts of a page as one text, by the names of their files."""
    files = resources.files("reports").joinpath("templates")
    return Markup("".join(files.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in names))


def digest(script: str) -> str:
    """Return the hash by which a Content-Security-Policy allows an inline script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def visible(value: object) -> object:
    """Escape control characters and changes of text direction, so that no name can hide or move the text after it."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(f"\\u{ord(c):04x}" if _hidden(c) else c for c in value)


def _hidden(character: str) -> bool:
    turns = unicodedata.bidirectional(character) in {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    return turns or (unicodedata.category(character) in {"Cc", "Cs"} and character not in "\n\t")


@cache
def environment() -> Environment:
    """Return the Jinja environment: templates, and filters that format numbers."""
    made = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    names = ("percent", "points", "span", "probability", "number", "count", "duration", "parameters")
    made.filters |= {name: getattr(wording, name) for name in names} | {"digest": digest}
    return made


def _figures(record: Record, bag: Concentrations | None) -> dict[str, Markup | None]:
    """Draw every figure; ElementTree has escaped the names in it."""
    drawn = {
        "margins": figures.margins(record),
        "cmi": figures.cmi_curve(record.cmi, bag),
        "classes": figures.cmi_per_class(record.cmi, record.task.classes),
        "costs": cost_figures.costs(record),
        "triangle": record.clusters and cluster_figures.triangle(record.clusters, record.task.classes),
        "projection": record.clusters and cluster_figures.projection(record.clusters, record.task.classes),
    }
    return {name: None if text is None else Markup(text) for name, text in drawn.items()}


def _raised(record: Record) -> set[str]:
    """Return what flags found: the page says it once, with what to do about it."""
    return {flag.found for flag in record.flags}


def _classes(record: Record) -> list[ClassRow]:
    """Return one row for every class, ordered by the last pool's CMI, largest first."""
    columns = zip(*(pool.per_class for pool in record.cmi), strict=False)
    rows = [ClassRow(name, cmi) for name, cmi in zip(record.task.classes, columns, strict=False)]
    return sorted(rows, key=lambda row: -1.0 if row.cmi[-1] is None else row.cmi[-1], reverse=True)
