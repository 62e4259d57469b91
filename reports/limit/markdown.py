"""Render a limit in GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports import frameworks
from reports.limit import wording
from reports.limit.document import Limit, Panel
from reports.markdown import escape


def render(limit: Limit) -> str:
    """Return the sentences, a line for every attacker, and every budget."""
    said = wording.sentences(limit)
    parts = [
        f"## {escape(wording.title(limit))}",
        *(f"**{escape(sentence)}**" for sentence in said),
        wording.COUNTED,
        _table(wording.HEADS, map(wording.summary, limit.panels)),
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
    return heading, _table(wording.CELL_HEADS, map(wording.row, panel.cells)), told


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(escape, cells))} |" for cells in rows)])
