"""Read TOML files that a user gives; errors name file, line and key."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reports import handed
from teachers.errors import UsageError

MOST: Final = handed.MIB  # bytes of a file, at most
Place = tuple[str | int, ...]  # the keys and indices that lead to a value


@dataclass(frozen=True)
class Purpose:
    """What a TOML file is for, in the words of error messages."""

    option: str  # the option that takes it
    values: str  # how values are written
    levels: str  # how deep tables go
    noun: str = ""


@dataclass(frozen=True)
class TomlFile:
    """The text of a TOML file."""

    path: Path
    text: str
    purpose: Purpose

    def content(self) -> dict[str, Any]:
        """Parse the text; raise UsageError if it is not valid TOML."""
        try:
            return tomllib.loads(self.text)
        except RecursionError as e:
            raise UsageError(f"{self.path} is nested too deeply; {self.purpose.levels}") from e
        except tomllib.TOMLDecodeError as e:
            raise UsageError(f"{self.path} is not valid TOML: {e}; {self.purpose.values}") from e
        except ValueError as e:  # the only other one that the reader raises
            what = f"a {self.purpose.noun}" if self.purpose.noun else "valid TOML"
            raise UsageError(f"{self.path} is not {what}: a number in it has thousands of digits") from e

    def wrong(self, place: Place, sentence: str) -> UsageError:
        """Return an error that names file, line and key."""
        key = ".".join(part for part in place if isinstance(part, str))
        return UsageError(f"{self.path}, line {line_of(self.text, place)}: {key} {sentence}")


def opened(path: Path, purpose: Purpose) -> TomlFile:
    """Read the text of a file; raise UsageError if it cannot be read, or is too large."""
    named = f"the {purpose.noun} {path}" if purpose.noun else str(path)
    try:
        return TomlFile(path, handed.text(path, MOST), purpose)
    except OSError as e:
        raise UsageError(f"cannot read {named} ({e.strerror}); give a TOML file with {purpose.option}") from e
    except handed.Unfit as e:
        raise UsageError(f"{named} {e}; give a TOML file with {purpose.option}") from e


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]#]+?)\s*\]")
_KEY = re.compile(r"\s*([\w.\-\"' ]+?)\s*=")


def line_of(text: str, place: Place) -> int:
    """Return the line of a value in TOML text; that of its table if the value is missing, else 1.

    The TOML reader keeps no line numbers, so this searches for them; a key in an inline value has that value's line.
    """
    lines: dict[Place, int] = {}
    table: Place = ()
    seen: dict[Place, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _keys(header[2])
            lines.setdefault(table, number)
            if header[1] == "[[":
                seen[table] = seen.get(table, -1) + 1
                table = (*table, seen[table])
                lines[table] = number
        elif key := _KEY.match(line):
            lines.setdefault((*table, *_keys(key[1])), number)
    return next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 1)


def _keys(dotted: str) -> Place:
    return tuple(part.strip(" \"'") for part in dotted.split("."))
