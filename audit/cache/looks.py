"""Store at how many seeds each question was looked at. There are two copies, for this cannot be computed again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from audit.cache import results
from audit.cache.store import Cache
from teachers.errors import RefusedInput
from teachers.storage.entries import DamagedEntry, Entries, opened


class _Copies(NamedTuple):
    """The looks of both copies together, damaged copies by name, and whether both copies are intact and equal."""

    seeds: frozenset[int]
    damaged: dict[str, DamagedEntry]
    alike: bool


@dataclass(frozen=True)
class Looks:
    """The looks that a cache stores."""

    entries: Entries

    def at(self, question: str) -> tuple[int, ...]:
        """Return the numbers of seeds at which a question was looked at; repair a damaged copy from the other one.

        Raises DamagedEntry where no copy is intact.
        """
        found = self._copies(question)
        if not found.alike:
            with self.entries.lock(self.entries.path("looks")):
                found = self._copies(question)
                for name, e in found.damaged.items():
                    self.entries.set_aside(name, f"{e}; its second copy replaces it")
                self._write(question, found.seeds)
        return tuple(sorted(found.seeds))

    def add(self, question: str, seeds: Iterable[int]) -> None:
        """Store the numbers of seeds at which a question was looked at.

        Raises what `at` raises.
        """
        self.entries.make_room(_names(question)[0])
        with self.entries.lock(self.entries.path("looks")):
            self._write(question, {*self.at(question), *seeds})

    def set_aside(self, question: str, why: str) -> None:
        """Set aside both copies."""
        for name in _names(question):
            if os.path.lexists(self.entries.path(name)):
                self.entries.set_aside(name, why)

    def _write(self, question: str, seeds: Iterable[int]) -> None:
        for name in _names(question):
            self.entries.write(name, json.dumps(sorted(seeds)).encode())

    def _copies(self, question: str) -> _Copies:
        copies, damaged, sealed = [], {}, True
        for name in _names(question):
            try:
                with opened(self.entries.path(name), name) as content:
                    copies.append(frozenset(results.looks(content)))
                    sealed &= content.sealed
            except FileNotFoundError:
                continue
            except DamagedEntry as e:
                damaged[name] = e
        if damaged and not copies:
            raise next(iter(damaged.values()))
        alike = not copies or (sealed and len(copies) == 2 and copies[0] == copies[1])
        return _Copies(frozenset[int]().union(*copies), damaged, alike)


def _names(question: str) -> tuple[str, str]:
    return f"looks/{question}.json", f"looks/{question}.copy"


def looked(cache: Cache, question: str) -> tuple[int, ...]:
    """Return the numbers of judged seeds at which a question was looked at before, in any folder.

    Raises RefusedInput where they cannot be read: without them the bounds would be too narrow.
    """
    try:
        return Looks(cache.entries).at(question)
    except DamagedEntry as e:
        said = f"{cache.looks(question)} {e}, and without the looks of earlier audits the bounds would be too narrow"
        raise RefusedInput(f"{said}; restore it from a copy of the cache") from e


def remember_looks(cache: Cache, question: str, seeds: Iterable[int]) -> None:
    """Store the numbers of seeds at which a question was looked at; each look spends some of the error."""
    looked(cache, question)
    Looks(cache.entries).add(question, seeds)
