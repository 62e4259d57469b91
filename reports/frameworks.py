"""Entries of public frameworks that an audit supports evidence for, from frameworks.toml; and docs/frameworks.md."""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from importlib import resources
from typing import Final, Literal, NamedTuple

from reports.base import Data
from reports.record import FrameworkEntry, Record
from reports.wording import count

INTRODUCTION: Final = (
    "An audit supports evidence for entries of these frameworks. Whether a system fulfils one is for its owner, and "
    "those who examine it, to say."
)
UNSIZED: Final = "no rate limit was sized (`audit limit`)"


class Entry(Data):
    """An entry of a framework; subject and what an audit shows of it are in our words."""

    framework: str
    version: str
    id: str
    subject: str
    evidence: Literal["attack", "surfaces", "budget", "limit"]
    shows: str
    read: bool  # whether its text was read
    source: str  # where
    earlier: bool = False  # of an earlier version: new records do not name it

    @property
    def name(self) -> FrameworkEntry:
        """What a record says of it."""
        return FrameworkEntry(framework=self.framework, version=self.version, id=self.id)


class Line(NamedTuple):
    """An entry, whether an audit supports evidence for it, and the sentence that says how, or what is missing."""

    entry: Entry
    supported: bool
    says: str


@cache
def _source() -> bytes:
    return resources.files("reports").joinpath("frameworks.toml").read_bytes()


def digest() -> str:
    """Return the sha256 of the data file."""
    return hashlib.sha256(_source()).hexdigest()


@cache
def entries() -> tuple[Entry, ...]:
    """Return every entry of the data file."""
    return tuple(Entry.model_validate(entry) for entry in tomllib.loads(_source().decode())["entry"])


def lines(record: Record, limit: str | None = None) -> tuple[Line, ...]:
    """Say of every entry what a record shows. `limit`: the sentence of a rate limit that was sized."""
    return tuple(_line(entry, record, limit) for entry in entries() if not entry.earlier)


def sized(limit: str) -> tuple[Line, ...]:
    """Say what the sentence of a rate limit that was sized supports evidence for."""
    held = (entry for entry in entries() if entry.evidence in ("budget", "limit") and not entry.earlier)
    return tuple(Line(entry, True, f"{entry.shows} {limit}") for entry in held)


def stated(record: Record) -> Record:
    """Return a new record with the entries that it supports evidence for."""
    return record.model_copy(update={"frameworks": tuple(line.entry.name for line in lines(record) if line.supported)})


def confirmed(record: Record) -> tuple[FrameworkEntry, ...]:
    """Return those entries that a record names and supports, each once, in the order of the data file."""
    named = set(record.frameworks)
    return tuple(e.name for e in entries() if e.name in named and _line(e, record, None).supported)


def _line(entry: Entry, record: Record, limit: str | None) -> Line:
    evidence, missing = _evidence(entry, record, limit)
    says = f"{entry.shows} {evidence}" if evidence else f"not shown here: {missing}"
    return Line(entry, bool(evidence), says)


def _evidence(entry: Entry, record: Record, limit: str | None) -> tuple[str, str]:
    """Return the evidence that a record has of an entry's kind, empty where it has none; and what is missing then."""
    word, budget, sized = record.verdict.word, record.settings.budget, limit or ""
    if entry.evidence == "attack":
        judged = sum(row.status == "judged" for row in record.comparisons)
        attacks = "1 attack was" if judged == 1 else f"{judged} attacks were"
        return f"{attacks} judged: {word}." if judged else "", "no attack was judged"
    if entry.evidence == "surfaces":
        words = {row.surface: row.word for row in record.surfaces} or {record.settings.surface: word}
        return f"{'; '.join(f'{surface}: {said}' for surface, said in words.items())}.", ""
    if entry.evidence == "budget":
        limited = "" if budget is None else f"At most {count(budget)} queries a student: {word}."
        return sized or limited, f"no limit on queries was set (--budget), and {UNSIZED}"
    return sized, UNSIZED


NEEDS: Final = {
    "attack": "a judged attack",
    "surfaces": "a verdict, of each surface where there are several",
    "budget": "a limit on queries (`--budget`), or `audit limit`",
    "limit": "`audit limit`",
}
HEAD: Final = f"""# Frameworks

{INTRODUCTION}

Record and attestation name the entries that an audit supports evidence for; `report.html` and `summary.md` say how, and
what is missing for the others. The subjects are in our words.
"""
HEADS: Final = ("| Entry | Subject | What an audit shows | It needs |", "|---|---|---|---|")


def page() -> str:
    """Write docs/frameworks.md."""
    parts = [HEAD]
    for framework, version in dict.fromkeys((entry.framework, entry.version) for entry in entries()):
        held = [entry for entry in entries() if (entry.framework, entry.version) == (framework, version)]
        rows = [f"| `{entry.id}` | {entry.subject} | {entry.shows} | {NEEDS[entry.evidence]} |" for entry in held]
        sources = dict.fromkeys(f"{'Read' if entry.read else 'Not read'}: {entry.source}." for entry in held)
        parts.append("\n".join([f"## {framework}, {version}\n", *HEADS, *rows, "", *sources, ""]))
    return "\n".join(parts)
