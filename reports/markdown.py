"""Render the record as a summary in GitHub's Markdown, for a pull request or the page of a CI job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from reports import answer, controls, frameworks
from reports.printable import clean
from reports.record import Comparison, Record
from reports.wording import (
    CAPS,
    HOLDS,
    beside,
    cost,
    count,
    distils,
    doubt,
    gain,
    hardening,
    outcome,
    percent,
    points,
    positive_control,
    probability,
    ranked,
    span,
    totals,
)

_HEADINGS = (
    "Attack",
    "Holds",
    "Knockoff",
    "Control",
    "Margin [sure range], points",
    "Outcome",
    "Holm p",
    "Positive control",
    "Queries",
)
_ALIGNED = "|".join(["---", "---", *["---:"] * 3, "---", "---:", "---", "---:"])
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>|~#!&@$]|(?<=:)//|(?<=www)\.")


def render(record: Record) -> str:
    """Return the verdict, its scope, the attacks, the flags, the number of queries and the frameworks."""
    verdict = record.verdict
    charged, sent = totals(record.ledger)
    parts = [
        f"## {verdict.word}: {escape(record.teacher.name)}",
        " ".join(f"**{escape(text)}**" for text in (answer.sentence(record), answer.following(record)) if text),
        escape(verdict.sentence),
        f"**Scope:** {escape(verdict.scope)}",
        "\n".join(f"- {escape(reason)}" for reason in verdict.reasons),
        f"**What would settle it:** {escape(verdict.settle)}" if verdict.settle else "",
        "### Attacks",
        "\n".join([f"| {' | '.join(_HEADINGS)} |", f"|{_ALIGNED}|", *(_row(c, record) for c in ranked(record))]),
        f"Margins over the control: the best student that the attacker can train without the teacher. The sure range "
        f"is corrected for all looks, its lower end for the number of attacks, too. Tolerance {points(verdict.delta)} "
        "points.",
        *_margins(record),
        "\n".join(escape(line) for line in beside(record)),
        *_surfaces(record),
        "### Flags",
        "\n".join(
            f"- **{escape(f.id)}** ({CAPS[f.caps]}): {escape(f.found.rstrip('.'))}. *What to do:* {escape(f.do)}"
            for f in record.flags
        )
        or "None.",
        "### Queries",
        f"{count(charged)} images charged to attacks, {count(sent)} distinct answers sent, "
        f"{count(record.distinct_answers)} of them by the audited teacher.",
        cost(record),
        "### Frameworks",
        frameworks.INTRODUCTION,
        "\n".join(_entry(line) for line in frameworks.lines(record)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _margins(record: Record) -> tuple[str, ...]:
    """Return the table of margins over each kind of control, where the record has them."""
    told = controls.rows(record)
    if not told:
        return ()
    lines = [f"| Margin, points | {' | '.join(controls.HEADS.values())} |", f"|---|{'---:|' * len(controls.HEADS)}"]
    lines += [f"| {' | '.join([escape(record.name_of(row)), *controls.cells(row)])} |" for row in told]
    return "\n".join(lines), escape(controls.NOTE)


def _surfaces(record: Record) -> tuple[str, ...]:
    """Return the table of surfaces if several were audited."""
    if not record.surfaces:
        return ()
    heads = ("Surface", "Verdict", "Best attack", "Margin, points", "Accuracy", "Calibration error", "Five classes")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * 3}{'---:|' * 4}"]
    for row in record.surfaces:
        margin = "–" if row.margin is None else f"{points(row.margin.mean)} {span(row.margin)}"
        users = percent(row.accuracy), percent(row.calibration_error), percent(row.top5)
        lines.append(f"| {' | '.join([escape(row.surface), row.word, escape(row.attack), margin, *users])} |")
    return "### API hardening", "\n".join(lines), escape(hardening(record))


def _row(comparison: Comparison, record: Record) -> str:
    """Return one line of the table; bold if the attack makes the teacher distillable."""
    name, value = escape(record.name_of(comparison)), gain(comparison, record)
    if distils(comparison, record):
        name, value = f"**{name}**", f"**{value}**"
    cells = (
        name,
        HOLDS[comparison.holds],
        percent(comparison.knockoff.accuracy),
        percent(comparison.control.accuracy),
        value,
        "; ".join(text for text in (outcome(comparison, record), doubt(comparison, record)) if text),
        probability(comparison.p_holm).replace("<", "&lt;"),
        positive_control(comparison),
        count(comparison.knockoff.queries),
    )
    return f"| {' | '.join(cells)} |"


def _entry(line: frameworks.Line) -> str:
    """Return one entry of a framework, and what the audit shows of it."""
    entry = line.entry
    return f"- **{escape(f'{entry.framework} {entry.version}, {entry.id}')}** ({entry.subject}): {escape(line.says)}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table of cells that are escaped already."""
    written = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([written[0], f"|{'---|' * len(heads)}", *written[1:]])


def escape(text: str) -> str:
    """Return the text on one line, without invisible characters, and with Markdown's and HTML's characters escaped."""
    line = clean(text) or "–"
    return _SPECIAL.sub(lambda match: "".join(f"&#{ord(c)};" for c in match[0]), line)
