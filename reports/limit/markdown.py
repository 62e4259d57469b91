"""Render a limit in GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports import frameworks
from reports.limit import wording
from reports.limit.document import Limit, Panel
from reports.markdown import escape, table


def render(limit: Limit) -> str:
    """Return the sentences, a line for every attacker, and every budget."""
    said = wording.sentences(limit)
    parts = [
        f"## {escape(wording.title(limit))}",
        *(f"**{escape(sentence)}**" for sentence in said),
        wording.COUNTED,
        table(wording.HEADS, _escaped(map(wording.summary, limit.panels))),
        wording.HOW,
        "### Every budget",
        *(part for panel in limit.panels for part in _panel(panel)),
        "### Frameworks",
        "\n".join(
            f"- {escape(f'{line.entry.framework} {line.entry.version}, {line.entry.id}')}: supports evidence for "
            f"{escape(line.entry.subject)}. {escape(line.says)}"
            for line in frameworks.sized(" ".join(said))
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _panel(panel: Panel) -> tuple[str, str, str]:
    told = f"{escape(wording.paid(panel))}. Attacks: {escape(', '.join(panel.attacks))}."
    heading = f"#### {escape(panel.surface)}, {escape(wording.holder(panel.hold))}"
    return heading, table(wording.CELL_HEADS, _escaped(map(wording.row, panel.cells))), told


def _escaped(rows: Iterable[Sequence[str]]) -> Iterable[tuple[str, ...]]:
    return (tuple(map(escape, cells)) for cells in rows)
