"""Terminal output of the cache commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from audit.cache.archive import ExportSummary
from audit.cache.listing import Inventory, Row, day, shelves
from audit.cache.pruning import PruneSummary
from reports import wording
from reports.printable import printable


def listed(found: Inventory) -> Iterator[str]:
    """List a cache: a line for every kind, technique and teacher."""
    yield f"{found.contents.root}: {wording.size(found.contents.bytes)}"
    for shelf in shelves(found):
        yield _line(shelf.kind, shelf.row)
        for title, rows in (("by technique", shelf.techniques), ("by teacher", shelf.teachers)):
            if rows:
                yield f"  {title}"
                yield from (_line(f"    {printable(row.name)}", row) for row in rows)
    yield from _named(found.broken, found.contents.foreign)


def _line(title: str, row: Row) -> str:
    return f"{title:40} {row.entries:8,} {wording.size(row.bytes):>10}  {day(row.used)[:10]}"


def removed(done: PruneSummary, dry: bool) -> Iterator[str]:
    """Say what was removed, or would be removed."""
    verb = "would remove" if dry else "removed"
    what = counted(Counter(entry.kind for entry in done.removed)) or "nothing"
    yield f"{verb} {what}: {wording.size(done.freed)} freed, {wording.size(done.left)} left"
    yield from _named(done.broken, done.foreign)


def exported(done: ExportSummary, file: Path) -> Iterator[str]:
    """Say what an archive holds."""
    what = counted(Counter(entry.kind for entry in done.entries)) or "nothing"
    yield f"{file}: {what}; {wording.size(done.bytes)}"
    yield from _named(done.broken, ())


def damaged(wrong: Mapping[str, str]) -> Iterator[str]:
    """List the damaged entries."""
    if wrong:
        yield from _named(wrong, ())
    else:
        yield "every entry is intact"


def counted(kinds: Mapping[str, int]) -> str:
    """Write the number of entries of each kind."""
    return ", ".join(f"{number:,} {kind}" for kind, number in sorted(kinds.items()))


def _named(broken: Mapping[str, str], foreign: tuple[str, ...]) -> Iterator[str]:
    for name, why in sorted(broken.items()):
        yield printable(f"damaged: {name} {why}; treated as missing")
    for name in foreign:
        yield printable(f"not part of the cache, left as it is: {name}")
