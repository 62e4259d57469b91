"""Check that a cache entry is valid and matches its name, as far as this is possible without training it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from audit.cache import results
from audit.cache.entries import Kind
from audit.plan.cells import Result
from teachers import intake
from teachers.errors import RefusedInput, UsageError
from teachers.intake import Teacher
from teachers.storage import parsers
from teachers.storage.entries import Content, opened
from teachers.storage.entries import DamagedEntry as DamagedEntry

T = TypeVar("T")


def check(kind: Kind, path: Path, name: str) -> None:
    """Check one entry of the cache; `name` is its name there.

    Raises DamagedEntry.
    """
    if parse := parsing(kind, name):
        _read(path, name, parse)


def parsing(kind: Kind, name: str) -> Callable[[Content], object] | None:
    """Return the parser of an entry; None for kinds that have no checksum."""
    stem, above = Path(name).stem, Path(name).parent.name
    known: dict[Kind, Callable[[Content], object]] = {
        "students": lambda content: results.student(content, stem),
        "teachers": _teacher,
        "answers": parsers.output if stem == "output" else lambda content: parsers.block(content, above),
        "looks": results.looks,
        "pools": parsers.pool,
        "unfinished": parsers.state,
    }
    return known.get(kind)


def student(path: Path, name: str) -> Result:
    """Read a student as the store does.

    Raises DamagedEntry.
    """
    return _read(path, name, lambda content: results.student(content, Path(name).stem))


def teacher(path: Path, name: str = "") -> Teacher:
    """Open a trained teacher as an audit does.

    Raises DamagedEntry.
    """
    return _read(path, name or f"{path.parent.name}/{path.name}", _teacher)


def looks(path: Path, name: str) -> tuple[int, ...]:
    """Read the numbers of seeds at which a question was looked at.

    Raises DamagedEntry.
    """
    return _read(path, name, results.looks)


def block(path: Path, name: str) -> parsers.Block:
    """Read a block of answers.

    Raises DamagedEntry.
    """
    return _read(path, name, lambda content: parsers.block(content, Path(name).parent.name))


def _read(path: Path, name: str, parse: Callable[[Content], T]) -> T:
    try:
        with opened(path, name) as content:
            return parse(content)
    except FileNotFoundError as e:
        raise DamagedEntry("is missing") from e


def _teacher(content: Content) -> Teacher:
    try:
        with parsers.checkpoint(content) as weights:
            card = weights.card
            assert card is not None
            return intake.assemble(weights, card.architecture, len(card.classes), card.shape, card.normalize)
    except (RefusedInput, UsageError) as e:
        raise DamagedEntry(parsers.UNFIT) from e
