"""Find damaged entries in a whole cache, before an audit uses them."""

from __future__ import annotations

from pathlib import Path

from audit.cache import checking
from audit.cache.entries import Contents, contents, kind_of
from audit.cache.looks import Looks
from audit.cache.store import Cache
from teachers.storage.entries import DamagedEntry


def damage(found: Contents) -> dict[str, str]:
    """Read every entry in full; return what is wrong with the damaged ones, by name."""
    wrong = {name: "is not a regular file" for name in found.foreign if kind_of(name) is not None}
    for entry in found.entries:
        copy = Path(entry.name).with_suffix(".copy").as_posix()
        names = (entry.name, copy) if entry.kind == "looks" and (found.root / copy).exists() else (entry.name,)
        for name in names:
            try:
                checking.check(entry.kind, found.root / name, name)
            except DamagedEntry as e:
                wrong[name] = str(e)
    return dict(sorted(wrong.items()))


def mended(root: Path) -> dict[str, str]:
    """Set aside damaged entries; return those that must stay: looks without an intact copy cannot be recomputed.

    Raises RefusedInput where the cache cannot be written.
    """
    cache, stays = Cache(root), {}
    for name, why in damage(contents(root)).items():
        if kind_of(name) == "looks" or Path(name).suffix == ".copy":
            try:
                Looks(cache.entries).at(Path(name).stem)
            except DamagedEntry:
                stays[name] = why
        else:
            cache.entries.set_aside(name, f"{why}; the next audit makes it again")
    return stays
