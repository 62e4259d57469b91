"""List a cache's content by kind, technique and teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from audit.cache import checking
from audit.cache.entries import KINDS, Contents, Entry, Kind
from audit.plan.cells import Cell
from audit.plan.design import own_teacher, smoothing
from teachers.intake import Card
from teachers.targets.home import TWIN_METHOD, TWIN_SEEDS
from teachers.targets.target import fingerprint

NOBODY, SMOOTHED = "no teacher", "smoothed labels"
CONTROL_SEED = 0  # seed of the ordinary teacher
LAST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class TeacherEntry:
    """A trained teacher in the cache."""

    entry: Entry
    card: Card
    fingerprint: str

    @property
    def ordinary(self) -> bool:
        """Whether audits use it as the ordinary teacher: plain training, with the seed of the controls."""
        return self.card.method == "plain" and self.card.seed == CONTROL_SEED

    @property
    def shared(self) -> bool:
        """Whether audits of any teacher use it: the ordinary teacher, and twins that controls ask."""
        return self.ordinary or (self.card.method == TWIN_METHOD and self.card.seed in TWIN_SEEDS)

    @property
    def name(self) -> str:
        """The name in lists."""
        seed = f", seed {self.card.seed}" if self.card.seed != CONTROL_SEED else ""
        return f"{self.card.method} ({self.card.data}{seed})"


@dataclass
class Inventory:
    """The content of a cache: which teachers its students and answers belong to, and which entries are damaged."""

    contents: Contents
    cells: dict[str, Cell] = field(default_factory=dict)  # by the entry's name
    taught: list[TeacherEntry] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)  # what is wrong, by the entry's name

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Names of the cache's trained teachers, by fingerprint."""
        return {one.fingerprint: one.name for one in self.taught}

    @cached_property
    def controls(self) -> frozenset[str]:
        """Names of the entries that audits of any teacher share: controls, ordinary teachers, twins and looks."""
        ordinary = {one.fingerprint for one in self.taught if one.ordinary}
        students = (n for n, c in self.cells.items() if c.teacher is None or c.teacher in ordinary or told(c))
        teachers = (one.entry.name for one in self.taught if one.shared)
        looks = (e.name for e in self.contents.entries if e.kind == "looks" and e.name not in self.broken)
        return frozenset((*students, *teachers, *looks))

    def asked(self, cell: Cell) -> str:
        """Return the name of the teacher that a student queried."""
        if cell.teacher is None:
            return NOBODY
        return told(cell) or self.names.get(cell.teacher, cell.teacher[:12])

    def answering(self, entry: Entry) -> str:
        """Return the name of the teacher that gave these answers."""
        digest = entry.name.split("/")[1]
        known = (name for mark, name in self.names.items() if mark.startswith(digest))
        of_controls = (told(c) for c in self.cells.values() if (c.teacher or "").startswith(digest))
        return next(known, None) or next(filter(None, of_controls), digest[:12])


def told(cell: Cell) -> str:
    """Name the teacher that only answers controls: smoothed labels, or an attacker's own; empty for others."""
    return SMOOTHED if smoothing(cell) is not None else own_teacher(cell) or ""


def inventory(contents: Contents) -> Inventory:
    """Read the students, teachers and looks of a cache; its answers are not read."""
    found = Inventory(contents)
    for entry in contents.entries:
        try:
            if entry.kind == "students":
                found.cells[entry.name] = checking.student(entry.path, entry.name).cell
            elif entry.kind == "teachers":
                opened = checking.teacher(entry.path, entry.name)
                assert opened.card is not None
                found.taught.append(TeacherEntry(entry, opened.card, fingerprint(opened)))
            elif entry.kind == "looks":
                checking.looks(entry.path, entry.name)
        except checking.DamagedEntry as e:
            found.broken[entry.name] = str(e)
    return found


@dataclass(frozen=True)
class Row:
    """A group of entries; `used`: time of the last use, in seconds since 1970."""

    name: str
    entries: int
    bytes: int
    used: float


@dataclass(frozen=True)
class Shelf:
    """All entries of one kind, also by technique or teacher where these are known."""

    kind: Kind
    row: Row
    techniques: tuple[Row, ...] = ()
    teachers: tuple[Row, ...] = ()


def shelves(found: Inventory) -> list[Shelf]:
    """Count a cache's entries, kind by kind."""
    sound = [e for e in found.contents.entries if e.name not in found.broken]
    whose: dict[str, str] = {one.entry.name: one.name for one in found.taught}
    shelves = []
    for kind in KINDS:
        every = [e for e in sound if e.kind == kind]
        if not every:
            continue
        techniques: tuple[Row, ...] = ()
        teachers: tuple[Row, ...] = ()
        if kind == "students":
            techniques = _rows(every, lambda e: found.cells[e.name].technique)
            teachers = _rows(every, lambda e: found.asked(found.cells[e.name]))
        elif kind == "teachers":
            teachers = _rows(every, lambda e: whose[e.name])
        elif kind == "answers":
            teachers = _rows(every, found.answering)
        shelves.append(Shelf(kind, _row(kind, every), techniques, teachers))
    return shelves


def _rows(entries: Iterable[Entry], key: Callable[[Entry], str]) -> tuple[Row, ...]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    return tuple(_row(name, groups[name]) for name in sorted(groups))


def _row(name: str, entries: list[Entry]) -> Row:
    return Row(name, len(entries), sum(e.bytes for e in entries), max(e.used for e in entries))


def day(seconds: float) -> str:
    """Write a time as a UTC date and time; impossible file times are moved into the years 1970 to 9999."""
    return datetime.fromtimestamp(min(max(seconds, 0), LAST), UTC).isoformat(timespec="seconds")


def plain(found: Inventory) -> dict[str, Any]:
    """Return the inventory as plain data, for JSON."""

    def row(one: Row) -> dict[str, Any]:
        return {"name": one.name, "entries": one.entries, "bytes": one.bytes, "used": day(one.used)}

    return {
        "cache": str(found.contents.root),
        "bytes": found.contents.bytes,
        "kinds": [
            {**row(s.row), "techniques": [row(r) for r in s.techniques], "teachers": [row(r) for r in s.teachers]}
            for s in shelves(found)
        ],
        "broken": [{"name": name, "why": why} for name, why in sorted(found.broken.items())],
        "foreign": list(found.contents.foreign),
    }
