"""Terminal output of the cache commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from audit.cache.archive import ExportSummary, ImportSummary
from audit.cache.listing import Inventory, Row, day, plain, shelves
from audit.cache.pruning import PruneSummary
from reports import terminal
from reports.printable import printable
from reports.wording import size


def print_inventory(found: Inventory) -> None:
    """Print what a cache holds: a line for every kind, technique and teacher."""
    _say(f"{found.contents.root}: {size(found.contents.bytes)}")
    for shelf in shelves(found):
        _say(_line(shelf.kind, shelf.row))
        for title, rows in (("by technique", shelf.techniques), ("by teacher", shelf.teachers)):
            if rows:
                _say(f"  {title}", *(_line(f"    {printable(row.name)}", row) for row in rows))
    _print_odd(found.broken, found.contents.foreign)


def _line(title: str, row: Row) -> str:
    return f"{title:40} {row.entries:8,} {size(row.bytes):>10}  {day(row.used)[:10]}"


def print_inventory_json(found: Inventory) -> None:
    """Print what a cache holds as JSON."""
    terminal.data(plain(found))


def print_pruned(done: PruneSummary, dry: bool) -> None:
    """Print what was removed, or would be removed."""
    what = _counted(Counter(entry.kind for entry in done.removed)) or "nothing"
    _say(f"{'would remove' if dry else 'removed'} {what}: {size(done.freed)} freed, {size(done.left)} left")
    _print_odd(done.broken, done.foreign)


def print_exported(done: ExportSummary, file: Path) -> None:
    """Print what an archive holds."""
    what = _counted(Counter(entry.kind for entry in done.entries)) or "nothing"
    _say(f"{file}: {what}; {size(done.bytes)}")
    _print_odd(done.broken)


def print_imported(done: ImportSummary, file: Path) -> None:
    """Print what came from an archive, and what did not because the cache has another entry of that name."""
    _say(f"{file}: {_counted(done.taken) or 'nothing new'}; {done.kept} were here already")
    _say(*(f"{name} was here already with other content, which stays" for name in done.others))


def print_damaged(wrong: Mapping[str, str]) -> None:
    """Print the names of damaged entries."""
    if not wrong:
        _say("every entry is intact")
    _print_odd(wrong)


def _counted(kinds: Mapping[Any, int]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in sorted(kinds.items()))


def _print_odd(broken: Mapping[str, str], foreign: Iterable[str] = ()) -> None:
    _say(*(f"damaged: {name} {why}; treated as missing" for name, why in sorted(broken.items())))
    _say(*(f"not part of the cache, left as it is: {name}" for name in foreign))


def _say(*lines: str) -> None:
    for line in lines:
        terminal.say(line, whole=True)
