"""Terminal output of `audit limit`."""

from __future__ import annotations

from pathlib import Path

from reports import terminal
from reports.limit import wording
from reports.limit.document import Limit


def print_limit(limit: Limit, folder: Path) -> None:
    """Print a sentence for every surface, and a line for every attacker."""
    for sentence in wording.sentences(limit):
        terminal.say(sentence, whole=True)
    terminal.table([head.lower() for head in wording.HEADS], map(wording.summary, limit.panels))
    terminal.say(f"{folder / 'limit.html'}", whole=True)


def print_limit_json(limit: Limit, folder: Path) -> None:
    """Print the document as JSON."""
    terminal.data(limit.model_dump(mode="json") | {"folder": str(folder)})
